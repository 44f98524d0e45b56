//! A data directory and what lies beside it: its lock, its log, and a half-made one.
//!
//! The lock is ours, not Postgres's: held by the process that owns the [`DataDir`], freed by the
//! kernel when that dies, so "in use" is never a guess.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::identity::Identity;
use super::{Error, Installation, SUPERUSER, random, system};

/// How long the server of a process that just died may take to follow it.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(15);

/// The ending of a directory that `initdb` is at work in; a number follows.
const UNFINISHED: &str = ".new-";

/// How much of a log goes into an error.
const TAIL_LINES: usize = 20;

/// A data directory that this process alone may use.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// Locked; closing it unlocks.
    _lock: File,
}

impl DataDir {
    /// Takes the directory for this process; it need not exist yet.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(Error::io("find", path))?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::NotADataDirectory(path));
        };
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let parent = parent.canonicalize().map_err(Error::io("find", parent))?;
        let path = parent.join(name);
        // What is reached by a link has its lock where it really is.
        let path = path.canonicalize().unwrap_or(path);

        let lock_path = beside(&path, ".lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(Error::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                return Err(Error::InUse { dir: path, pid: pid.trim().parse().unwrap_or(0) });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &lock_path)(source)),
        }
        // For the message of whoever comes second.
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(Error::io("write", &lock_path))?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The server's log: of its latest start only.
    pub(super) fn log(&self) -> PathBuf {
        beside(&self.path, ".log")
    }

    /// The password of the loopback port.
    pub(super) fn password_file(&self) -> PathBuf {
        beside(&self.path, ".password")
    }

    /// The last lines of the log.
    pub(super) fn tail_of_log(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Waits for a server that an earlier process left behind.
    ///
    /// We hold the lock, so whatever runs here has lost its owner. On Linux the kernel has told it
    /// to stop; elsewhere we do.
    pub(super) async fn outlast_predecessor(&self) -> Result<(), Error> {
        let Some(pid) = self.pid_file().pid else {
            return Ok(());
        };
        if !serves(pid, &self.path) {
            // Postgres would take any living process of that number for a server.
            let file = self.path.join("postmaster.pid");
            return fs::remove_file(&file).map_err(Error::io("remove", &file));
        }
        if cfg!(not(target_os = "linux")) {
            system::interrupt(pid);
        }
        let deadline = Instant::now() + PREDECESSOR_PATIENCE;
        while serves(pid, &self.path) {
            if Instant::now() > deadline {
                let dir = self.path.clone();
                return Err(Error::InUse { dir, pid });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Checks that this Postgres can use the data, having made it first if there is none.
    pub(super) async fn prepare(
        &self,
        installation: &Installation,
        identity: Identity,
        durable: bool,
    ) -> Result<(), Error> {
        if !self.path.exists() {
            self.initialise(installation, identity, durable).await?;
        }
        let Ok(version) = fs::read_to_string(self.path.join("PG_VERSION")) else {
            return Err(Error::NotADataDirectory(self.path.clone()));
        };
        if version.trim() != installation.version.to_string() {
            return Err(Error::OtherVersion {
                dir: self.path.clone(),
                found: version.trim().to_owned(),
                installed: installation.version,
                bin: installation.bin.clone(),
            });
        }
        identity.give(&self.path)
    }

    /// Makes the data under another name first, so that an interrupted attempt never looks done.
    ///
    /// A name of its own every time: what a killed process left may still be at work for a moment
    /// under the old one, and cleans up after itself there.
    async fn initialise(
        &self,
        installation: &Installation,
        identity: Identity,
        durable: bool,
    ) -> Result<(), Error> {
        self.remove_unfinished();
        let number = u32::from_ne_bytes(random()?);
        let unfinished = beside(&self.path, &format!("{UNFINISHED}{number:08x}"));
        let mut outcome = Err(Error::Initdb(String::new()));
        for locale in ["--locale=C.UTF-8", "--no-locale"] {
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished).map_err(Error::io("remove", &unfinished))?;
            }
            DirBuilder::new().mode(0o700).create(&unfinished).map_err(Error::io("create", &unfinished))?;
            identity.give(&unfinished)?;

            let mut command = Command::new(installation.program("initdb"));
            command
                .arg("--pgdata")
                .arg(&unfinished)
                .args(["--username", SUPERUSER, "--encoding=UTF8", locale])
                // Whoever gets at the socket is its owner; the loopback port is open to everyone.
                .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
                .args((!durable).then_some("--no-sync"));
            identity.apply(&mut command);
            outcome = run(command).await;
            // A C library may not know the locale, and an older Postgres has none of its own.
            let unknown_locale =
                matches!(&outcome, Err(Error::Initdb(output)) if output.contains("locale name"));
            if !unknown_locale {
                break;
            }
        }
        outcome?;
        fs::rename(&unfinished, &self.path).map_err(Error::io("rename", &unfinished))?;
        if durable && let Some(parent) = self.path.parent() {
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", parent))?;
        }
        Ok(())
    }

    /// Removes what interrupted attempts left, as far as it can be.
    fn remove_unfinished(&self) {
        let ours = beside(&self.path, UNFINISHED);
        let (Some(parent), Some(prefix)) = (ours.parent(), ours.file_name()) else {
            return;
        };
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// What the server says about itself.
    pub(super) fn pid_file(&self) -> PidFile {
        let content = fs::read_to_string(self.path.join("postmaster.pid")).unwrap_or_default();
        PidFile::parse(&content)
    }
}

/// The parts of `postmaster.pid` that matter here.
/// <https://www.postgresql.org/docs/current/storage-file-layout.html>
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: Option<u32>,
    pub(super) ready: bool,
}

impl PidFile {
    fn parse(content: &str) -> Self {
        let mut lines = content.lines().map(str::trim);
        Self {
            // Negative while a single-user server has the directory.
            pid: lines.next().and_then(|line| line.parse().ok()),
            // A standby takes connections too, and never becomes more than that.
            ready: matches!(lines.nth(6), Some("ready" | "standby")),
        }
    }
}

/// A sibling of the data directory: the same name with another ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(ending);
    path.with_file_name(name)
}

/// Whether the process is a Postgres server on this data directory.
#[cfg(target_os = "linux")]
fn serves(pid: u32, data: &Path) -> bool {
    // A server's working directory is its data directory, by whatever name it got there.
    let identity = |path: &Path| fs::metadata(path).map(|dir| (dir.dev(), dir.ino())).ok();
    let found = identity(Path::new(&format!("/proc/{pid}/cwd")));
    found.is_some() && found == identity(data)
}

/// Whether the process is a Postgres server; of which directory, this system does not say.
#[cfg(not(target_os = "linux"))]
fn serves(pid: u32, _data: &Path) -> bool {
    Command::new("ps")
        .args(["-o", "comm=", "-p", &pid.to_string()])
        .output()
        .is_ok_and(|found| String::from_utf8_lossy(&found.stdout).contains("postgres"))
}

/// Runs a program to its end on a thread that stays until then, as [`Identity::apply`] asks.
async fn run(mut command: Command) -> Result<(), Error> {
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .map_err(std::io::Error::other)
        .and_then(|output| output)
        .map_err(|error| Error::Initdb(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Initdb(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::PidFile;

    #[test]
    fn a_pid_file_is_ready_on_its_eighth_line_only() {
        let lines = "71\n/data\n1700000000\n5432\n/socket\n\n  123 4\nready   \n";
        let ready = PidFile { pid: Some(71), ready: true };
        assert_eq!(PidFile::parse(lines), ready);
        assert_eq!(PidFile::parse(&lines.replace("ready  ", "standby")), ready);
        assert!(!PidFile::parse(&lines.replace("ready", "starting")).ready);
        assert_eq!(PidFile::parse(""), PidFile { pid: None, ready: false });
    }
}
