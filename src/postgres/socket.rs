//! Where the server's Unix socket is: a directory that its owner alone may enter.
//!
//! That closed directory is the whole of the access control: inside it every connection is trusted.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::identity::Identity;
use super::{Error, system};

/// The longest path of a socket on any system we run on: macOS has room for 104 bytes with the NUL.
const LONGEST_PATH: usize = 103;

/// The longest file name of the socket, whatever the port.
const LONGEST_NAME: &str = "/.s.PGSQL.65535";

/// The directory of one server's socket.
#[derive(Debug)]
pub(super) enum SocketDir {
    /// The data directory itself, which is closed to others anyway.
    Data(PathBuf),
    /// A short one elsewhere, removed at the end.
    Short(PathBuf),
}

impl SocketDir {
    /// The data directory where its path is short enough, else a new one under `/tmp`.
    pub(super) fn of(data: &Path, identity: Identity) -> Result<Self, Error> {
        let length = data.as_os_str().len() + LONGEST_NAME.len();
        // A URL cannot carry what is not UTF-8.
        if length <= LONGEST_PATH && data.to_str().is_some() {
            return Ok(Self::Data(data.to_owned()));
        }
        // The same name at every start, so that a process killed leaves at most one behind.
        let mut hasher = DefaultHasher::new();
        data.hash(&mut hasher);
        let path = PathBuf::from(format!("/tmp/threads-identity-{:016x}", hasher.finish()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                check_ours(&path, identity)?;
            }
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
        identity.give(&path)?;
        Ok(Self::Short(path))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Data(path) | Self::Short(path) => path,
        }
    }

    /// The directory as the host of a URL.
    pub(super) fn as_host(&self) -> String {
        let bytes = self.path().as_os_str().as_bytes();
        let mut host = String::new();
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => write!(host, "{}", char::from(*byte)),
                _ => write!(host, "%{byte:02X}"),
            };
        }
        host
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if let Self::Short(path) = self {
            // Empty by now; if it is not, it is not ours to remove.
            let _ = fs::remove_dir(path);
        }
    }
}

/// Fails if others could have made the directory or may enter it: anyone may write to `/tmp`.
fn check_ours(path: &Path, identity: Identity) -> Result<(), Error> {
    let found = fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
    let server = match identity {
        Identity::Other { uid, .. } => uid,
        Identity::Own | Identity::Namespace => system::effective_user(),
    };
    let ours = found.uid() == system::effective_user() || found.uid() == server;
    if found.is_dir() && ours && found.mode() & 0o777 == 0o700 {
        return Ok(());
    }
    Err(Error::io("use", path)(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it exists, and is not ours alone",
    )))
}
