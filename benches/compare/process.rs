//! What a process has used, as the kernel tells it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

/// How often memory is looked at under load.
const LOOK: Duration = Duration::from_millis(20);
/// Ticks of the clock by which the kernel counts, per second: the same on every Linux.
const TICKS: f64 = 100.0;

/// Resident memory in MiB.
pub fn resident(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// Seconds of processor that a process has used, in the kernel's and its own code.
pub fn processor(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    fields(&stat).get(11..13).map_or(0.0, |ticks| ticks.iter().sum::<f64>() / TICKS)
}

/// The same of all processes that this one has started, such as those of Postgres.
/// Those that have ended are not in it.
pub fn processor_of_children(id: u32) -> f64 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = f64::from(id);
    let is_child = |number: &u32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        fields(&stat).get(1).is_some_and(|of| (of - parent).abs() < 0.5)
    };
    numbers.filter(is_child).map(processor).sum()
}

/// What stands after the name, which may hold anything: the state counts as nought.
fn fields(stat: &str) -> Vec<f64> {
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    after.split(' ').map(|field| field.trim().parse().unwrap_or_default()).collect()
}

/// The most memory that a process has had while it was watched.
pub struct Peak {
    most: Arc<AtomicU64>,
    watch: JoinHandle<()>,
}

impl Peak {
    pub fn watch(id: u32) -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&most);
        let watch = tokio::spawn(async move {
            loop {
                seen.fetch_max(resident(id).to_bits(), Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { most, watch }
    }

    /// In MiB.
    pub fn end(self) -> f64 {
        self.watch.abort();
        f64::from_bits(self.most.load(Ordering::Relaxed))
    }
}
