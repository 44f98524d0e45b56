//! Where the files of a test's processes are.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use threads_identity::secret;

/// A directory that is gone after the test; a later run of any tests removes what
/// a killed one left.
pub struct Home {
    pub path: PathBuf,
    /// Says that it is in use, also while its Postgres is down.
    _lock: File,
}

impl Home {
    /// Makes one, in memory where there is some.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let name = secret::hex(&secret::random::<8>());
        let path = base.join(format!("threads-identity-test-{name}"));
        // Others may pass but not look: the server may have to run as another user.
        DirBuilder::new().mode(0o711).create(&path).unwrap();
        let lock = File::create(path.join("data.lock")).unwrap();
        lock.try_lock().unwrap();
        Self { path, _lock: lock }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
