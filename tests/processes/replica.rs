//! A real `serve`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// One process, which begins anew each time it has been killed.
pub struct Replica {
    config: PathBuf,
    /// What it has logged, through all its lives.
    pub log: PathBuf,
    database_url: String,
    keyring: String,
    child: Option<Child>,
    /// How it ended when nobody had told it to.
    pub deserted: Option<String>,
}

impl Replica {
    /// Starts it.
    pub fn start(config: &Path, log: PathBuf, database_url: &str, keyring: &str) -> Self {
        let mut replica = Self {
            config: config.to_owned(),
            log,
            database_url: database_url.to_owned(),
            keyring: keyring.to_owned(),
            child: None,
            deserted: None,
        };
        replica.run();
        replica
    }

    /// Begins.
    pub fn run(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_threads-identity"));
        command.args(["serve", "--config"]).arg(&self.config).env_clear();
        command.env("DATABASE_URL", &self.database_url).env("THREADS_IDENTITY_KEY", &self.keyring);
        command.env("RUST_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Kills it, at whatever point its work has reached.
    pub fn kill(&mut self) {
        self.look();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: &str) {
        self.look();
        if let Some(child) = &self.child {
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
            assert!(sent.unwrap().success());
        }
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        if let Some(mut child) = self.child.take() {
            let how = child.wait().unwrap();
            if !how.success() {
                self.deserted = Some(format!("asked to stop: {how}"));
            }
        }
    }

    /// Notes that it has ended by itself, which it never may.
    pub fn look(&mut self) {
        if let Some(child) = &mut self.child
            && let Some(how) = child.try_wait().unwrap()
        {
            self.deserted = Some(how.to_string());
            self.child = None;
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
