//! Databases that Auth.js and better-auth make themselves, by their own packages,
//! and the other implementation of age. `tests/imports` has the programs.
//!
//! Where there is no `npm`, or it cannot fetch the packages, the tests that need
//! them say that they are skipped, and fail if `THREADS_IDENTITY_IMPORTS_REQUIRED` is
//! set, as it is in CI.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::sync::OnceCell;

/// Where the others say that they are.
pub const ORIGIN: &str = "http://127.0.0.1:3000";
/// Where both let Threads send a browser back to.
pub const CALLBACK: &str = "http://127.0.0.1:3000/api/auth/callback/threads";

static FOLDER: OnceCell<Option<PathBuf>> = OnceCell::const_new();

/// The programs of `tests/imports` with their packages.
pub struct Makers(PathBuf);

impl Makers {
    /// Fetches the packages once; none where that cannot be.
    pub async fn get() -> Option<Self> {
        let fetched = FOLDER.get_or_init(async || {
            let fetched = fetch();
            if let Err(why) = &fetched {
                let required = std::env::var_os("THREADS_IDENTITY_IMPORTS_REQUIRED").is_some();
                assert!(!required, "npm and its packages are required here: {why}");
                // Not by the macro, whose output is only shown when a test fails.
                let _ = writeln!(std::io::stderr(), "TESTS OF IMPORTS ARE SKIPPED: npm: {why}");
            }
            fetched.ok()
        });
        fetched.await.clone().map(Self)
    }

    /// Lets a program make what is ordered; its users by the Threads ids of theirs.
    pub fn make(&self, program: &str, order: &Value) -> BTreeMap<String, String> {
        let mut child = self.node(program);
        let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{program}: {err}");
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|why| panic!("{program}: {why}: {err}"))
    }

    /// Runs a program that a page shows, in a folder of the test's, after these lines.
    pub fn run_shown(&self, before: &str, program: &str, order: &Value, folder: &Path) {
        let name = format!("shown-{}.mjs", std::process::id());
        fs::write(self.0.join(&name), format!("{before}\n{program}")).unwrap();
        let mut child = self.node(&name);
        let mut child = child.current_dir(folder).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        fs::remove_file(self.0.join(&name)).unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    /// A key of age: the secret half, and the recipient.
    pub fn age_key(&self) -> (String, String) {
        let made = self.node("open-age.mjs").arg("generate").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        (made["identity"].as_str().unwrap().to_owned(), made["recipient"].as_str().unwrap().to_owned())
    }

    /// Opens a file that was sealed for a key of age; none if it does not open.
    pub fn open_age(&self, identity: &str, file: &Path) -> Option<String> {
        let opened = self.node("open-age.mjs").args(["open", identity]).arg(file).output().unwrap();
        opened.status.success().then(|| String::from_utf8(opened.stdout).unwrap())
    }

    fn node(&self, program: &str) -> Command {
        let mut node = Command::new("node");
        node.arg(self.0.join(program)).stdout(Stdio::piped()).stderr(Stdio::piped());
        node
    }
}

/// Brings the programs and their packages to where nothing of the repository is
/// touched.
fn fetch() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/imports");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("imports");
    fs::create_dir_all(&folder).map_err(|why| why.to_string())?;
    let lock = fs::read(source.join("package-lock.json")).unwrap();
    let stamp = folder.join("fetched");
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        fs::copy(&path, folder.join(path.file_name().unwrap())).map_err(|why| why.to_string())?;
    }
    if fs::read(&stamp).is_ok_and(|fetched| fetched == lock) {
        return Ok(folder);
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]).current_dir(&folder);
    let ended = npm.output().map_err(|why| why.to_string())?;
    if !ended.status.success() {
        return Err(String::from_utf8_lossy(&ended.stderr).lines().next().unwrap_or_default().to_owned());
    }
    fs::write(stamp, lock).map_err(|why| why.to_string())?;
    Ok(folder)
}
