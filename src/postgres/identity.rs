//! Who the server runs as: Postgres refuses to be root, and containers often are.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Error, RunAs, system};

/// What `nobody` is called where the user database does not say.
const NOBODY: (u32, u32) = (65534, 65534);

/// Who the server's processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The user we are.
    Own,
    /// Root outside of a user namespace, an ordinary user inside it.
    Namespace,
    /// Another user, taken on by setuid.
    Other { uid: u32, gid: u32 },
}

impl Identity {
    /// Chooses for a data directory that may not exist yet; `postgres` is run once to try.
    pub(super) fn choose(run_as: RunAs, data: &Path, postgres: &Path) -> Self {
        if system::effective_user() != 0 {
            return Self::Own;
        }
        let owner = fs::metadata(data).map(|found| (found.uid(), found.gid()));
        match (run_as, owner) {
            (RunAs::UserNamespace, _) => Self::Namespace,
            (RunAs::Automatic, Ok((uid, gid))) if uid != 0 => Self::Other { uid, gid },
            (RunAs::Automatic, _) if namespaces_work(postgres) => Self::Namespace,
            (RunAs::Automatic | RunAs::Nobody, _) => Self::nobody(),
        }
    }

    fn nobody() -> Self {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = users.lines().find_map(nobody_of).unwrap_or(NOBODY);
        Self::Other { uid, gid }
    }

    /// Makes the command run as this, bound to the life of the thread that spawns it.
    pub(super) fn apply(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        system::bind(command, self == Self::Namespace);
        command
            // Away from the terminal's group: Ctrl-C is for us, and we stop the server in our time.
            .process_group(0)
            // The caller's directory may be closed to this user.
            .current_dir("/")
            // Nothing of the caller's environment changes what the server is: no PGPORT, no locale.
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .stdin(Stdio::null());
    }

    /// Gives the file or directory, and all in it, to this user.
    pub(super) fn give(self, path: &Path) -> Result<(), Error> {
        let Self::Other { uid, gid } = self else {
            return Ok(());
        };
        let found = fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
        if found.uid() == uid {
            return Ok(());
        }
        // What is inside first: a directory that is given has been given whole.
        if found.is_dir() {
            for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
                self.give(&entry.map_err(Error::io("read", path))?.path())?;
            }
        }
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", path))
    }

    /// Fails if a directory above `wanted` is closed to this user.
    ///
    /// Groups do not count, as the server runs in none of ours.
    pub(super) fn check_reach(self, wanted: &Path) -> Result<(), Error> {
        let (uid, user) = match self {
            Self::Own => return Ok(()),
            // Inside the namespace root has no power over others' files.
            Self::Namespace => (0, "root in a user namespace".to_owned()),
            Self::Other { uid, .. } => (uid, format!("the user with id {uid}")),
        };
        for dir in wanted.ancestors().skip(1) {
            let found = fs::metadata(dir).map_err(Error::io("look at", dir))?;
            let needed = if found.uid() == uid { 0o100 } else { 0o001 };
            if found.mode() & needed == 0 {
                return Err(Error::Unreachable { user, blocked: dir.to_owned(), wanted: wanted.to_owned() });
            }
        }
        Ok(())
    }
}

/// The user and group of a line of the user database, if it is `nobody`'s.
fn nobody_of(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.split(':');
    if fields.next() != Some("nobody") {
        return None;
    }
    // Next is the password's field.
    fields.next();
    let mut id = || {
        // macOS writes -2.
        let number: i64 = fields.next()?.parse().ok()?;
        Some((number & i64::from(u32::MAX)).try_into().unwrap_or(NOBODY.0))
    };
    Some((id()?, id()?))
}

/// Whether this system lets us make user namespaces; containers often may not.
fn namespaces_work(postgres: &Path) -> bool {
    let mut command = Command::new(postgres);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    Identity::Namespace.apply(&mut command);
    command.status().is_ok_and(|status| status.success())
}
