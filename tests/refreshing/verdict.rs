//! What came of it all.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use threads_identity::simulator::Refresh;

use crate::nemesis::{Blow, Kind};
use crate::world::{LEASE, World};

/// Everything that must hold, and what it was found to be.
pub struct Verdict {
    accounts: u64,
    refreshes: usize,
    blows: BTreeMap<&'static str, usize>,
    /// Tokens refreshed more than once that a blow explains.
    explained: usize,
    /// What is wrong; nothing is good.
    faults: Vec<String>,
}

impl Verdict {
    pub async fn of(world: &World, blows: &[Blow]) -> Self {
        let mut faults: Vec<String> = world.controls.violations();
        let active = world.counted("select count(*) from accounts where state = 'ACTIVE'").await;
        if active != i64::try_from(world.accounts).unwrap() {
            faults.push(format!("{active} of {} accounts are left", world.accounts));
        }
        for (person, token) in world.stored_tokens().await {
            let fault = match token {
                None => "no token that opens",
                Some(token) if !world.controls.is_newest(&token) => {
                    "the stored token is not the one given last"
                }
                Some(_) if world.controls.refresh_count(&person.key) == 0 => "it was never refreshed",
                Some(_) => continue,
            };
            faults.push(format!("{}: {fault}\n{}", person.key, world.history(&person)));
        }
        for (number, replica) in world.replicas.iter().enumerate() {
            if let Some(how) = &replica.lock().await.deserted {
                faults.push(format!("replica {number} ended by itself: {how}"));
            }
        }
        let refreshes = world.controls.refreshes();
        let (mut explained, mut last): (usize, HashMap<&str, &Refresh>) = Default::default();
        for refresh in &refreshes {
            let Some(first) = last.insert(&refresh.token, refresh) else { continue };
            match unexplained(first, refresh, blows) {
                None => explained += 1,
                Some(why) => faults.push(format!("{}: refreshed twice, {why}", refresh.persona)),
            }
        }
        let mut counts = BTreeMap::new();
        for blow in blows {
            *counts.entry(name(blow.kind)).or_default() += 1;
        }
        Self { accounts: world.accounts, refreshes: refreshes.len(), blows: counts, explained, faults }
    }

    /// Fails unless all is well.
    #[track_caller]
    pub fn demand(&self) {
        assert!(self.faults.is_empty(), "{} faults: {:#?}", self.faults.len(), self.faults);
    }
}

/// Why a second refresh of one token cannot be excused. Times are in whole seconds.
fn unexplained(first: &Refresh, second: &Refresh, blows: &[Blow]) -> Option<String> {
    let apart = second.time - first.time;
    if apart + 1 < i64::try_from(LEASE.as_secs()).unwrap() {
        return Some(format!("after {apart} s, before the lease was over"));
    }
    let is_struck = blows.iter().any(|blow| blow.begin <= second.time && first.time <= blow.end);
    (!is_struck).then(|| format!("after {apart} s in which nothing befell anybody"))
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Killed => "replicas killed",
        Kind::Frozen => "replicas frozen",
        Kind::Stopped => "Postgres stopped",
        Kind::Crashed => "Postgres crashed",
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accounts, {} refreshes, {} of them again after a blow; {:?}; {} faults",
            self.accounts,
            self.refreshes,
            self.explained,
            self.blows,
            self.faults.len()
        )
    }
}
