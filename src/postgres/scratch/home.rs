//! The directory of a test server: in memory where there is room, gone afterwards.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::postgres::{Environment, Error, random, system};

/// What these directories are called first.
const PREFIX: &str = "threads-identity-test-";

/// How much memory must be free for the data to lie in it.
#[cfg(target_os = "linux")]
const ROOM: u64 = 1 << 30;

/// How old a directory is before it is taken for left behind: its owner makes it first and locks it
/// a moment later.
const SETTLED: Duration = Duration::from_mins(1);

/// A directory that is removed when dropped.
pub(super) struct Home(PathBuf);

impl Home {
    /// Makes one, and removes those that killed processes left behind.
    pub(super) fn new(env: Environment<'_>) -> Result<Self, Error> {
        let base = base(env);
        sweep(&base);
        let number = u64::from_ne_bytes(random()?);
        let path = base.join(format!("{PREFIX}{number:016x}"));
        // Others may pass but not look: the server may have to run as another user.
        DirBuilder::new().mode(0o711).create(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What remains is swept up by a later run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn base(env: Environment<'_>) -> PathBuf {
    #[cfg(target_os = "linux")]
    if system::free_space(c"/dev/shm").is_some_and(|free| free > ROOM) {
        return PathBuf::from("/dev/shm");
    }
    env("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
}

/// Removes what belongs to nobody any more.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let path = entry.path();
        let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if named && is_left_behind(&path) {
            tracing::debug!("removing what a test run left behind: {}", path.display());
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_left_behind(path: &Path) -> bool {
    let Ok(found) = fs::symlink_metadata(path) else {
        return false;
    };
    let age = found.modified().ok().and_then(|time| time.elapsed().ok());
    if !found.is_dir() || found.uid() != system::effective_user() || age.is_none_or(|age| age < SETTLED) {
        return false;
    }
    // The lock goes with the process that held it.
    match File::open(path.join("data.lock")) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;
    use std::time::Duration;

    use super::{Home, PREFIX, SETTLED, sweep};

    #[test]
    fn only_what_is_old_and_unlocked_is_swept_up() {
        let base = PathBuf::from(format!("/tmp/threads-identity-sweep-{}", std::process::id()));
        let base = Home(base);
        let make = |name: &str, age: Duration| {
            let dir = base.path().join(name);
            fs::create_dir_all(&dir).unwrap();
            let lock = File::create(dir.join("data.lock")).unwrap();
            let time = File::open(&dir).unwrap().metadata().unwrap().modified().unwrap() - age;
            File::open(&dir).unwrap().set_modified(time).unwrap();
            (dir, lock)
        };
        let (held, lock) = make(&format!("{PREFIX}held"), 2 * SETTLED);
        lock.try_lock().unwrap();
        let (left, _) = make(&format!("{PREFIX}left"), 2 * SETTLED);
        let (new, _) = make(&format!("{PREFIX}new"), Duration::ZERO);
        let (other, _) = make("other", 2 * SETTLED);

        sweep(base.path());
        assert!(held.exists() && new.exists() && other.exists());
        assert!(!left.exists());
    }
}
