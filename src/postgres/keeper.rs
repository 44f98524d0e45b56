//! The thread that keeps a server process: starts it, watches it, stops it.
//!
//! One thread for three reasons. The kernel's parent-death signal follows the thread that forked, so
//! that thread has to live as long as the server, which a runtime's threads do not promise. Only it
//! waits for the process, so it never signals a number that has become somebody else's. And it
//! belongs to no async runtime, so a server started by one test outlives that test's runtime.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::system;

/// How often the thread looks whether the server has ended by itself.
const BEAT: Duration = Duration::from_millis(100);

/// How long a server may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server process and the thread behind it.
pub(super) struct Keeper {
    pid: u32,
    /// Dropped, it means the same as sending.
    stop: mpsc::Sender<()>,
    ended: watch::Receiver<Option<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the command on a thread of its own.
    pub(super) async fn spawn(mut command: Command) -> io::Result<Self> {
        let (started, starting) = oneshot::channel();
        let (stop, orders) = mpsc::channel();
        let (report, ended) = watch::channel(None);
        let work = move || match command.spawn() {
            Ok(child) => {
                // When nobody listens any more, the sender of orders is gone too, which stops it.
                let _ = started.send(Ok(child.id()));
                report.send_replace(Some(keep(child, &orders)));
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name("postgres".to_owned()).spawn(work)?;
        let pid = starting.await.map_err(io::Error::other)??;
        Ok(Self { pid, stop, ended, thread: Some(thread) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How the server ended, if it has.
    pub(super) fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Stops the server and waits until it is gone.
    pub(super) async fn stop(&mut self) {
        let _ = self.stop.send(());
        // An error means that the thread is gone, and it goes last.
        let _ = self.ended.wait_for(Option::is_some).await;
    }
}

impl Drop for Keeper {
    /// Stops the server and waits, so that no process is left behind; bounded by `PATIENCE`.
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Watches the process until it ends or is told to; says how it ended.
fn keep(mut child: Child, orders: &mpsc::Receiver<()>) -> String {
    loop {
        let told = orders.recv_timeout(BEAT) != Err(mpsc::RecvTimeoutError::Timeout);
        if let Some(how) = outcome(&mut child) {
            if !told {
                tracing::warn!("Postgres ended by itself: {how}");
            }
            return how;
        }
        if told {
            break;
        }
    }
    system::interrupt(child.id());
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(how) = outcome(&mut child) {
            return how;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    child.wait().map_or_else(|error| error.to_string(), |how| how.to_string())
}

/// How the process ended, if it has.
fn outcome(child: &mut Child) -> Option<String> {
    match child.try_wait() {
        Ok(status) => status.map(|how| how.to_string()),
        Err(error) => Some(error.to_string()),
    }
}
