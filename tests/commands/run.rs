//! Running the binary.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use threads_identity::postgres::scratch::{Database, Databases};
use threads_identity::store;
use tokio::sync::OnceCell;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A directory that is gone after the test.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("threads-identity-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The binary with these arguments and nothing of this process' environment but
/// where programs and the home are.
pub fn command<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_threads-identity")), arguments)
}

/// The same, of a binary that has been copied.
pub fn command_of<S: AsRef<std::ffi::OsStr>>(
    binary: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments);
    clean(&mut command);
    command
}

/// Leaves of the environment only where programs and the home are.
pub fn clean(command: &mut Command) {
    command.env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null());
}

/// How a command ended, and what it said.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// It must have gone well; what it printed.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "out: {}\nerr: {}", self.out, self.err);
        self.out
    }

    /// It must have failed; what it complained of.
    #[track_caller]
    pub fn bad(self) -> String {
        assert!(
            self.code.is_some_and(|code| code != 0),
            "code {:?}, out: {}\nerr: {}",
            self.code,
            self.out,
            self.err
        );
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// Runs a command to its end.
pub fn end(mut command: Command) -> Ended {
    Running::start(&mut command).end()
}

/// Runs the binary with these arguments to its end.
pub fn run(arguments: &[&str]) -> Ended {
    end(command(arguments))
}

/// The lines of a stream so far, and whether it has ended.
#[derive(Default)]
struct Lines {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let shared = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                shared.state.lock().unwrap_or_else(PoisonError::into_inner).0.push(line);
                shared.changed.notify_all();
            }
            shared.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
            shared.changed.notify_all();
        });
        lines
    }

    fn wait(&self, what: &str, done: impl Fn(&[String], bool) -> bool) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let waiting = |state: &mut (Vec<String>, bool)| !done(&state.0, state.1);
        let (state, timeout) = self.changed.wait_timeout_while(state, PATIENCE, waiting).unwrap();
        assert!(!timeout.timed_out(), "waited too long for {what}: {:#?}", state.0);
        state.0.clone()
    }
}

/// A command that runs; killed at the end of the test if it still does.
pub struct Running {
    child: Child,
    out: Arc<Lines>,
    err: Arc<Lines>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { out: Lines::follow(out), err: Lines::follow(err), child }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory that it holds, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The first line that it prints, as JSON.
    pub fn json(&self) -> serde_json::Value {
        let lines = self.out.wait("a line", |lines, ended| !lines.is_empty() || ended);
        let first = lines.first().unwrap_or_else(|| panic!("it printed nothing: {:#?}", self.errors()));
        serde_json::from_str(first).unwrap()
    }

    /// Waits until it has printed this; all that it printed.
    pub fn printed(&self, text: &str) -> String {
        let found = |lines: &[String], ended: bool| ended || lines.iter().any(|line| line.contains(text));
        let lines = self.out.wait(text, found).join("\n");
        assert!(lines.contains(text), "no {text:?} in {lines}\n{:#?}", self.errors());
        lines
    }

    /// The lines on standard error so far.
    pub fn errors(&self) -> Vec<String> {
        self.err.state.lock().unwrap().0.clone()
    }

    /// Writes a line to its standard input, which must be a pipe, and closes it.
    pub fn say(&mut self, line: &str) {
        use std::io::Write as _;
        writeln!(self.child.stdin.take().expect("a pipe"), "{line}").unwrap();
    }

    /// Waits until a line on standard error is so.
    pub fn complained(&self, what: &str, so: impl Fn(&str) -> bool) -> String {
        let found = |lines: &[String], ended: bool| ended || lines.iter().any(|line| so(line));
        let lines = self.err.wait(what, found);
        let line = lines.iter().find(|line| so(line));
        line.unwrap_or_else(|| panic!("never {what}: {lines:#?}")).clone()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.errors());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end, and says how it went.
    pub fn end(mut self) -> Ended {
        let code = self.wait().code();
        let all = |lines: &Lines| lines.wait("the end", |_, ended| ended).join("\n");
        Ended { code, out: all(&self.out), err: all(&self.err) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

static DATABASES: OnceCell<Databases> = OnceCell::const_new();

/// An empty database: nothing has been migrated.
pub async fn empty_database() -> Database {
    let start = || async {
        #[expect(clippy::disallowed_methods, reason = "where the tests learn which server to use")]
        let environment = |name: &str| std::env::var(name).ok();
        Databases::start(&environment, async |_| Ok(())).await.unwrap()
    };
    DATABASES.get_or_init(start).await.create().await.unwrap()
}

/// A database with the schema in it.
pub async fn database() -> Database {
    let database = empty_database().await;
    store::migrate(&threads_identity::secret::DatabaseUrl::new(database.url().to_owned())).await.unwrap();
    database
}

/// The SHA-256 of a text, in hexadecimal.
pub fn sha256(text: &str) -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    threads_identity::secret::hex(digest(&SHA256, text.as_bytes()).as_ref())
}
