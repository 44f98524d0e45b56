//! Moving in: accounts from the tables of Auth.js and better-auth, or from a file.
//!
//! Every token is proven by one reading of the profile behind it, at a pace. A row
//! whose token is dead, missing or cannot be proven still comes in, and its person
//! is asked to consent again; only what is malformed, or contradicts what is here,
//! is refused. What is in already is passed over, so that a run which ended early
//! is simply run again. If Threads answers nobody the run ends: an outage makes
//! nobody consent again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::ids::AccountId;
use crate::service::{App, Service};
use crate::states::StateReason;
use crate::store::StoreError;
use crate::store::foreign::Row;
use crate::store::imports::{self, Import, Imported, Standing};
use crate::threads::{Class, Failure, Limited};

mod decision;
mod entry;
mod fate;
mod file;
mod proof;
mod source;

use decision::{Decision, decide};
pub use entry::{Entry, Invalid};
pub use fate::{Fate, Lack, Refusal, Tally, Told};
pub use file::{File, FileError};
use proof::{Proof, Proven};
pub use source::{Source, SourceError};

/// The most rows that are looked at together.
const CHUNK_MAX: usize = 100;
/// How many calls may be under way.
const CALLS_MAX: usize = 16;
/// The waits before a row about which Threads gave no verdict is asked about again.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];
/// The longest that Threads is waited for when it asks the app to be quiet.
const PAUSE_MAX: Duration = Duration::from_mins(10);
/// How often a batch is written anew that met another transaction or a database
/// that was away, and the wait before.
const WRITE_TRIES: usize = 5;
const WRITE_WAIT: Duration = Duration::from_secs(1);

/// What is asked of a run.
pub struct Plan<'a> {
    /// The name of the source, for the trail.
    pub source: &'a str,
    /// The most readings of profiles in a second.
    pub rate: u32,
    /// Ask Threads, but write nothing.
    pub dry_run: bool,
}

/// Why a run ended early. What is in stays in, and it can be run again.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Somebody asked.
    #[error("it was asked to stop")]
    Asked,
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Our own database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Threads answers about nobody.
    #[error(
        "Threads gives no answer that says anything about a token ({0}): nobody is taken for dead over that"
    )]
    Silent(String),
    /// Threads wants to be left alone for long.
    #[error("Threads asks the app to be quiet for {} minutes", .0.as_secs().div_ceil(60))]
    Paused(Duration),
}

/// Brings everything in that a source holds, and tells of each row what became of
/// it. Ends early between two rows when the service is stopping.
///
/// # Errors
/// [`Stop`]; the tally is of what was done by then.
pub async fn run(
    service: &Service,
    app: &App,
    source: Source,
    plan: &Plan<'_>,
    tell: impl FnMut(&Told, Fate),
) -> (Tally, Result<(), Stop>) {
    let mut pace = interval(Duration::from_secs(1) / plan.rate.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut run = Run { service, app, plan, pace, tell, tally: Tally::default(), witness: None };
    let done = run.through(source).await;
    (run.tally, done)
}

struct Run<'a, F> {
    service: &'a Service,
    app: &'a App,
    plan: &'a Plan<'a>,
    pace: Interval,
    tell: F,
    tally: Tally,
    /// A row that Threads has answered for: if it is silent about another, whether
    /// it is about this one too tells whose fault that is.
    witness: Option<Entry>,
}

/// A row that is not settled by how its account stands here.
struct Case {
    entry: Entry,
    /// The attempt of the ACTIVE account whose token is to be replaced.
    replaces: Option<i64>,
    /// Whether the account is here and waits for a consent.
    is_waiting: bool,
}

impl<F: FnMut(&Told, Fate)> Run<'_, F> {
    async fn through(&mut self, mut source: Source) -> Result<(), Stop> {
        let mut rows = VecDeque::new();
        loop {
            if rows.is_empty() {
                rows.extend(source.next().await?);
            }
            if rows.is_empty() {
                return Ok(());
            }
            let entries = self.parse(&mut rows);
            self.bring_in(entries).await?;
            if self.service.stopping.is_cancelled() {
                return Err(Stop::Asked);
            }
        }
    }

    fn done(&mut self, told: &Told, fate: Fate) {
        self.tally.count(fate);
        (self.tell)(told, fate);
    }

    /// Takes rows that can be looked at together: no account twice, for the second
    /// row is to meet what the first has made.
    fn parse(&mut self, rows: &mut VecDeque<Result<Row, u64>>) -> Vec<Entry> {
        let chunk =
            usize::try_from(self.plan.rate.saturating_mul(2)).unwrap_or(CHUNK_MAX).clamp(10, CHUNK_MAX);
        let (now, mut entries, mut seen) = (self.service.clock.now(), Vec::new(), HashSet::new());
        while entries.len() < chunk
            && let Some(row) = rows.pop_front()
        {
            let row = match row {
                Ok(row) => row,
                Err(number) => {
                    let told = Told { number: Some(number), ..Told::default() };
                    self.done(&told, Fate::Refused(Refusal::Invalid(Invalid::Row)));
                    continue;
                }
            };
            let told = Told {
                number: row.number,
                user_id: row.user_id.clone(),
                threads_user_id: row.threads_user_id.clone(),
            };
            if let Some(fate) = entry::settled(&row) {
                self.done(&told, fate);
                continue;
            }
            match Entry::read(&row, told.clone(), self.app, self.service.keyring.id_key(), now) {
                Err(invalid) => self.done(&told, Fate::Refused(Refusal::Invalid(invalid))),
                Ok(entry) if !seen.insert(entry.id) => {
                    rows.push_front(Ok(row));
                    break;
                }
                Ok(entry) => entries.push(entry),
            }
        }
        entries
    }

    async fn bring_in(&mut self, entries: Vec<Entry>) -> Result<(), Stop> {
        let ids: Vec<AccountId> = entries.iter().map(|entry| entry.id).collect();
        let standings = self.standings(&ids).await?;
        let (mut open, mut imports) = (Vec::new(), Vec::new());
        for entry in entries {
            match decide(&entry, standings.get(&entry.id)) {
                Decision::Done(fate) => self.done(&entry.told, fate),
                Decision::Ask { replaces, is_waiting } if entry.token.is_some() => {
                    open.push(Case { entry, replaces, is_waiting });
                }
                Decision::Ask { .. } => {
                    let reason = entry.state_reason.unwrap_or(StateReason::TokenExpired);
                    let case = Case { entry, replaces: None, is_waiting: false };
                    imports.push(Answered { case, outcome: Err((Lack::Missing, reason)) });
                }
            }
        }
        let result = self.ask(open, &mut imports).await;
        // What Threads has said by then is not to be asked for again.
        self.write(imports).await?;
        result
    }

    async fn standings(&self, ids: &[AccountId]) -> Result<HashMap<AccountId, Standing>, Stop> {
        let mut tries = 1;
        loop {
            match imports::standings(&self.service.store.pool, ids).await {
                Err(StoreError::Unavailable(_)) if tries < WRITE_TRIES => {
                    tries += 1;
                    sleep(WRITE_WAIT).await;
                }
                found => return Ok(found?),
            }
        }
    }

    /// Asks Threads about each, at the pace, and again about those of which it said
    /// nothing.
    async fn ask(&mut self, mut open: Vec<Case>, imports: &mut Vec<Answered>) -> Result<(), Stop> {
        let (mut limited, mut why) = (Vec::new(), String::new());
        for wait in WAITS.into_iter().map(Some).chain([None]) {
            let (service, app, is_trial) = (self.service, self.app, self.plan.dry_run);
            let paced = stream::unfold((&mut self.pace, open.into_iter()), async |(pace, mut rest)| {
                let open = rest.next()?;
                pace.tick().await;
                Some((open, (pace, rest)))
            });
            let proofs = paced.map(move |case: Case| async move {
                let is_over = service.stopping.is_cancelled();
                let proof = if is_over {
                    None
                } else {
                    Some(proof::prove(service, app, &case.entry, is_trial).await)
                };
                (case, proof)
            });
            let answers: Vec<(Case, Option<Proof>)> = proofs.buffer_unordered(CALLS_MAX).collect().await;
            let mut silent = Vec::new();
            for (case, proof) in answers {
                let Some(proof) = proof else { continue };
                let Some((case, failure)) = self.take(case, proof, imports) else { continue };
                why = failure.to_string();
                // Whom Threads limits is not asked about again: that would be what it asks not to do.
                let is_limited = failure.class == Class::RateLimited(Limited::Account);
                if is_limited { limited.push(case) } else { silent.push(case) }
            }
            if service.stopping.is_cancelled() {
                return Err(Stop::Asked);
            }
            let Some(wait) = wait.filter(|_| !silent.is_empty()) else {
                silent.append(&mut limited);
                return self.give_up(silent, why, imports).await;
            };
            let pause = app.threads.pause().unwrap_or_default();
            if pause > PAUSE_MAX {
                return Err(Stop::Paused(pause));
            }
            tokio::select! {
                () = sleep(wait.max(pause)) => {}
                () = service.stopping.cancelled() => return Err(Stop::Asked),
            }
            open = silent;
        }
        Ok(())
    }

    /// Takes Threads' word about a row; gives the row back if there was none.
    fn take(&mut self, case: Case, proof: Proof, imports: &mut Vec<Answered>) -> Option<(Case, Failure)> {
        match proof {
            Proof::Works(proven) => {
                self.witness = Some(case.entry.clone());
                imports.push(Answered { case, outcome: Ok(*proven) });
            }
            Proof::Dead(reason) => imports.push(Answered { case, outcome: Err((Lack::Dead, reason)) }),
            Proof::OtherPerson => self.done(&case.entry.told, Fate::Refused(Refusal::Mismatch)),
            Proof::Silent(failure) => return Some((case, failure)),
        }
        None
    }

    /// Threads has said nothing about these, again and again. If it answers about
    /// somebody else, they cannot be proven; otherwise it is not about them. What is
    /// here already stays as it is.
    async fn give_up(
        &mut self,
        silent: Vec<Case>,
        why: String,
        imports: &mut Vec<Answered>,
    ) -> Result<(), Stop> {
        if silent.is_empty() {
            return Ok(());
        }
        if self.app.threads.is_away() {
            return Err(Stop::Silent(why));
        }
        let is_here = |case: &Case| case.is_waiting || case.replaces.is_some();
        let (here, new): (Vec<Case>, Vec<Case>) = silent.into_iter().partition(is_here);
        if !new.is_empty() {
            let Some(witness) = &self.witness else { return Err(Stop::Silent(why)) };
            if let Proof::Silent(_) = proof::prove(self.service, self.app, witness, true).await {
                return Err(Stop::Silent(why));
            }
        }
        let unproven = (Lack::Unproven, StateReason::SessionInvalidated);
        for case in here {
            let fate = Fate::ReauthorizationRequired(unproven.0, unproven.1);
            self.done(&case.entry.told, if case.is_waiting { fate } else { Fate::Unchanged });
        }
        imports.extend(new.into_iter().map(|case| Answered { case, outcome: Err(unproven) }));
        Ok(())
    }

    /// Writes what is known, and tells of it.
    async fn write(&mut self, mut answered: Vec<Answered>) -> Result<(), Stop> {
        let mut tries = 1;
        while !answered.is_empty() {
            if self.plan.dry_run {
                for one in answered {
                    // What is ACTIVE here stays so.
                    let is_kept = one.outcome.is_err() && one.case.replaces.is_some();
                    self.done(&one.case.entry.told, if is_kept { Fate::Unchanged } else { one.fate() });
                }
                return Ok(());
            }
            let batch: Vec<Import> = answered.iter().map(|answered| self.import(answered)).collect();
            let (service, now) = (self.service, self.service.clock.now());
            let written =
                imports::write(&service.store.pool, self.app.id(), self.plan.source, &batch, now).await;
            let results = match written {
                Ok(results) => results,
                Err(StoreError::Unavailable(_) | StoreError::Conflict) if tries < WRITE_TRIES => {
                    tries += 1;
                    sleep(WRITE_WAIT).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut overtaken = Vec::new();
            for (one, result) in answered.into_iter().zip(results) {
                let fate = match result {
                    Imported::Done => one.fate(),
                    // It waits for a consent, as before.
                    Imported::Unchanged if one.case.is_waiting => one.fate(),
                    Imported::Unchanged => Fate::Unchanged,
                    Imported::OthersAccount => Fate::Refused(Refusal::OthersAccount),
                    Imported::Unlinked => Fate::Refused(Refusal::Unlinked),
                    Imported::Erased => Fate::Refused(Refusal::Erased),
                    Imported::Overtaken => {
                        overtaken.push(one);
                        continue;
                    }
                };
                self.done(&one.case.entry.told, fate);
            }
            if !overtaken.is_empty() && tries >= WRITE_TRIES {
                return Err(StoreError::Conflict.into());
            }
            tries += 1;
            answered = overtaken;
        }
        Ok(())
    }

    fn import(&self, Answered { case, outcome }: &Answered) -> Import {
        let (entry, token) = (&case.entry, outcome.as_ref().map_err(|(_, reason)| *reason));
        Import {
            id: entry.id,
            threads_user_id: entry.threads_user_id.clone(),
            user_id: entry.told.user_id.clone(),
            scopes: entry.scopes.clone(),
            token: token.map(|proven| proven.sealed(self.service, self.app, entry.id)),
            begin_time: entry.begin_time,
            authorize_time: entry.authorize_time,
            replaces: case.replaces,
        }
    }
}

/// A row, and what is known of its token.
struct Answered {
    case: Case,
    outcome: Result<Proven, (Lack, StateReason)>,
}

impl Answered {
    fn fate(&self) -> Fate {
        match self.outcome {
            Ok(_) => Fate::Active,
            Err((lack, reason)) => Fate::ReauthorizationRequired(lack, reason),
        }
    }
}
