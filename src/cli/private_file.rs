//! Files that hold secrets: readable by their owner alone, put in place whole, and
//! changed by one command at a time.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::secret;

/// Keeps every other command from changing a file, for as long as it is held:
/// whoever reads it, changes it and writes it back must not undo what another did
/// meanwhile. Waits until it is free. It is the folder that is locked, so that
/// nothing is left there.
pub(super) fn hold(file: &Path) -> io::Result<File> {
    let target = target(file);
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")))?;
    folder.lock()?;
    Ok(folder)
}

/// Writes a file beside the old one and puts it in its place, so that no
/// interruption loses what was there. It is its owner's alone; one that was there
/// keeps its owner, where we may give it away, and what its group may do, but nothing
/// that everybody might. What is reached through a link is changed where it stands.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = Fresh::create(file)?;
    fresh.write_all(content)?;
    fresh.inherit()?;
    fresh.keep()
}

/// A file that is being written beside the place where it will stand. It is its
/// owner's alone, and gone unless it is kept: nobody takes half of it for the whole.
pub(super) struct Fresh {
    out: File,
    place: PathBuf,
    target: PathBuf,
    is_kept: bool,
}

impl Fresh {
    /// Begins one.
    pub(super) fn create(file: &Path) -> io::Result<Self> {
        let target = target(file);
        let place = beside(&target, &format!(".{}.new", secret::hex(&secret::random::<8>())));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        private(&mut options);
        Ok(Self { out: options.open(&place)?, place, target, is_kept: false })
    }

    /// Takes over whose the old one is.
    fn inherit(&self) -> io::Result<()> {
        #[cfg(unix)]
        if let Ok(old) = fs::metadata(&self.target) {
            use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
            // Only root may give a file away; whoever else changes it is its owner already.
            let _ = fchown(&self.out, Some(old.uid()), Some(old.gid()));
            // Open to everybody, it was nobody's decision what the group may.
            let everybody = old.mode() % 0o10;
            let mode = if everybody == 0 { old.mode() & 0o770 } else { 0o600 };
            self.out.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Puts it in its place.
    pub(super) fn keep(mut self) -> io::Result<()> {
        self.out.sync_all()?;
        fs::rename(&self.place, &self.target)?;
        self.is_kept = true;
        Ok(())
    }
}

impl io::Write for Fresh {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.out.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.place);
        }
    }
}

/// Begins a file that is its owner's alone, and grows where it stands. What is there
/// already may be the only one of its kind, and is not touched.
pub(super) fn create_private(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private(&mut options);
    options.open(file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(),
        _ => error,
    })
}

/// Refuses a place where something stands.
pub(super) fn require_free(file: &Path) -> io::Result<()> {
    match fs::symlink_metadata(file) {
        Ok(_) => Err(is_there()),
        Err(_) => Ok(()),
    }
}

fn is_there() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "is there already: name a new file, or remove this one")
}

/// Where a file stands, behind all links.
fn target(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_owned())
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = file.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    file.with_file_name(name)
}

fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = options;
}
