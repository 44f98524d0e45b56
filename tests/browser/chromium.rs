//! Chromium and the program that drives it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::webdriver::Session;

/// Where the two programs are; why not, if they cannot be used.
static PROGRAMS: OnceCell<Result<Programs, String>> = OnceCell::const_new();

#[derive(Clone)]
struct Programs {
    chromium: PathBuf,
    chromedriver: PathBuf,
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn find(variable_name: &str, names: &[&str]) -> Result<PathBuf, String> {
    if let Some(named) = variable(variable_name) {
        return Ok(PathBuf::from(named));
    }
    let path = variable("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).flat_map(|place| names.iter().map(move |n| place.join(n)));
    places
        .find(|file| file.is_file())
        .ok_or_else(|| format!("no {} is on the PATH, and {variable_name} names none", names[0]))
}

impl Programs {
    /// Finds them, and sees that they fit each other.
    async fn find() -> Result<Self, String> {
        let programs = Self {
            chromium: find("THREADS_IDENTITY_CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])?,
            chromedriver: find("THREADS_IDENTITY_CHROMEDRIVER", &["chromedriver"])?,
        };
        let driver = Driver::start(&programs)?;
        driver.browser().await.map_err(|error| format!("Chromium does not start: {error}"))?;
        Ok(programs)
    }
}

/// A running chromedriver. It and every Chromium that it started are gone when it
/// is dropped: they are one process group.
pub struct Driver {
    child: Child,
    url: String,
    programs: Programs,
    profiles: PathBuf,
}

/// Starts a driver; none, said plainly, where there is no browser.
pub async fn driver() -> Option<Driver> {
    let programs = PROGRAMS.get_or_init(|| async {
        let found = Programs::find().await;
        if let Err(why) = &found {
            let required = variable("THREADS_IDENTITY_BROWSER_REQUIRED").is_some();
            assert!(!required, "a browser is required here: {why}");
            // Not by the macro, whose output is only shown when a test fails.
            let _ = writeln!(std::io::stderr(), "THE BROWSER TESTS ARE SKIPPED: {why}");
        }
        found
    });
    programs.await.as_ref().ok().map(|programs| Driver::start(programs).unwrap())
}

impl Driver {
    /// Starts one; again, if it ends at once: the port that it chooses for IPv4 may be
    /// taken for IPv6.
    fn start(programs: &Programs) -> Result<Self, String> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(programs) {
                Err(_) if tries < 5 => {}
                result => return result,
            }
        }
    }

    fn try_start(programs: &Programs) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("threads-identity-browser-{}-{number}", std::process::id());
        let profiles = std::env::temp_dir().join(name);
        let mut child = Command::new(&programs.chromedriver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", programs.chromedriver.display()))?;
        if let Err(error) = std::fs::create_dir(&profiles) {
            let _ = child.kill();
            return Err(format!("{}: {error}", profiles.display()));
        }
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            line.rsplit_once("started successfully on port ")
                .map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        // What more it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let url = port.map(|port| format!("http://127.0.0.1:{port}"));
        let mut driver = Self { child, url: String::new(), programs: programs.clone(), profiles };
        driver.url = url.ok_or_else(|| format!("{} does not start", programs.chromedriver.display()))?;
        Ok(driver)
    }

    /// A browser with a new profile: nothing is known to it.
    pub async fn browser(&self) -> Result<Browser, String> {
        self.start_browser("normal").await
    }

    /// One that does not wait until a page is complete, for pages that never are.
    pub async fn impatient_browser(&self) -> Browser {
        self.start_browser("none").await.unwrap()
    }

    async fn start_browser(&self, load_strategy: &str) -> Result<Browser, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let profile = self.profiles.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        let profile = format!("--user-data-dir={}", profile.display());
        let mut arguments = vec![
            "--headless",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--disable-breakpad",
            "--lang=en",
            "--window-size=1280,800",
            &profile,
        ];
        // Root has no sandbox in Chromium.
        if std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            arguments.push("--no-sandbox");
        }
        let wanted = json!({
            "browserName": "chrome",
            "pageLoadStrategy": load_strategy,
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "binary": self.programs.chromium, "args": arguments },
        });
        let session = Session::new(&self.url, wanted).await?;
        Ok(Browser { session, waits: load_strategy == "normal" })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profiles);
    }
}

/// One browser: its own profile, so its own session.
pub struct Browser {
    pub session: Session,
    /// Whether it waits until a page is complete.
    pub waits: bool,
}

impl Browser {
    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        self.try_value(expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The same; an error where there is no page just now.
    pub async fn try_value(&self, expression: &str) -> Result<Value, String> {
        let script = json!({ "script": format!("return {expression}"), "args": [] });
        self.session.post("/execute/sync", script).await
    }

    /// A command of the developer tools.
    pub async fn tool(&self, command: &str, parameters: Value) -> Value {
        let command = json!({ "cmd": command, "params": parameters });
        self.session.post("/goog/cdp/execute", command).await.unwrap()
    }
}

/// Where screenshots are kept.
pub fn screenshots() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("screenshots");
    std::fs::create_dir_all(&target).unwrap();
    target
}
