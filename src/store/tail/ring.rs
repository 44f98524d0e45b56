//! The newest settled changes in memory, for all who watch.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::states::ChangeKind;
use crate::store::events::Change;

/// The changes, all apps' together.
pub(super) struct Ring {
    capacity: usize,
    era: u64,
    /// Everything that is settled after this...
    after: i64,
    /// ... and up to this is here.
    upto: i64,
    changes: VecDeque<Arc<Change>>,
}

/// What there is in memory after a position.
#[derive(Debug)]
pub enum Taken {
    /// Changes of all apps, and up to where they tell everything. Both empty and
    /// at the position itself when nothing is new.
    Changes(Vec<Arc<Change>>, i64),
    /// Something after the position is not in memory any more.
    Behind,
    /// The position is of another history.
    OtherEra,
}

impl Ring {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, era: 0, after: i64::MAX, upto: i64::MAX, changes: VecDeque::new() }
    }

    /// Up to where it tells everything.
    pub fn upto(&self) -> i64 {
        self.upto
    }

    /// Forgets everything, and begins after a position.
    pub fn restart(&mut self, era: u64, after: i64) {
        self.changes.clear();
        (self.era, self.after, self.upto) = (era, after, after);
    }

    /// Adds what follows, up to a position, and forgets the oldest beyond the
    /// capacity.
    pub fn add(&mut self, changes: Vec<Arc<Change>>, upto: i64) {
        for change in changes {
            if change.kind == Some(ChangeKind::Erased) {
                // Nothing of the erased is kept in memory either, but for an ERASED that its
                // user may still have to hear of, as in the table.
                let names_it = |kept: &Change| {
                    kept.account_id == change.account_id && kept.kind != Some(ChangeKind::Erased)
                };
                for kept in self.changes.iter_mut().filter(|kept| names_it(kept)) {
                    *kept = Arc::new(kept.erased());
                }
            }
            self.changes.push_back(change);
            if self.changes.len() > self.capacity
                && let Some(forgotten) = self.changes.pop_front()
            {
                self.after = forgotten.event_id;
            }
        }
        self.upto = upto;
    }

    /// At most `limit` changes after a position.
    pub fn take(&self, era: u64, position: i64, limit: usize) -> Taken {
        if era != self.era {
            return Taken::OtherEra;
        }
        if position >= self.upto {
            return Taken::Changes(Vec::new(), position);
        }
        if position < self.after {
            return Taken::Behind;
        }
        let start = self.changes.partition_point(|change| change.event_id <= position);
        let taken: Vec<Arc<Change>> = self.changes.iter().skip(start).take(limit).map(Arc::clone).collect();
        let is_cut_off = start + taken.len() < self.changes.len();
        let upto = taken.last().filter(|_| is_cut_off).map_or(self.upto, |last| last.event_id);
        Taken::Changes(taken, upto)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use time::OffsetDateTime;

    use super::*;
    use crate::ids::AccountId;

    fn change(event_id: i64, kind: ChangeKind, account: u128) -> Arc<Change> {
        Arc::new(Change {
            event_id,
            app_id: "default".to_owned(),
            account_id: AccountId(uuid::Uuid::from_u128(account)),
            user_id: "user".to_owned(),
            previous_user_id: Some("other".to_owned()),
            kind: Some(kind),
            time: OffsetDateTime::UNIX_EPOCH,
            account: None,
            cursor: OnceLock::new(),
        })
    }

    fn linked(event_id: i64) -> Arc<Change> {
        change(event_id, ChangeKind::Linked, 1)
    }

    fn taken(ring: &Ring, position: i64, limit: usize) -> Option<(Vec<i64>, i64)> {
        match ring.take(1, position, limit) {
            Taken::Changes(changes, upto) => Some((changes.iter().map(|c| c.event_id).collect(), upto)),
            Taken::Behind => None,
            Taken::OtherEra => panic!("one era"),
        }
    }

    #[test]
    fn it_tells_what_follows_a_position_or_that_it_cannot() {
        let mut ring = Ring::new(3);
        assert!(matches!(ring.take(1, 0, 9), Taken::OtherEra));
        ring.restart(1, 10);
        assert_eq!(taken(&ring, 10, 9), Some((vec![], 10)));
        assert_eq!(taken(&ring, 25, 9), Some((vec![], 25)), "ahead: another replica was quicker");
        ring.add(vec![linked(12), linked(13)], 15);
        assert_eq!(taken(&ring, 9, 9), None);
        assert_eq!(taken(&ring, 10, 9), Some((vec![12, 13], 15)));
        assert_eq!(taken(&ring, 12, 9), Some((vec![13], 15)));
        assert_eq!(taken(&ring, 10, 1), Some((vec![12], 12)));
        assert_eq!(taken(&ring, 14, 9), Some((vec![], 15)));
        ring.add(vec![linked(16), linked(17)], 17);
        assert_eq!(taken(&ring, 11, 9), None, "12 has been forgotten");
        assert_eq!(taken(&ring, 12, 9), Some((vec![13, 16, 17], 17)));
        assert!(matches!(ring.take(2, 17, 9), Taken::OtherEra));
    }

    #[test]
    fn an_erasure_is_told_although_another_follows() {
        let mut ring = Ring::new(9);
        ring.restart(1, 0);
        ring.add(vec![change(1, ChangeKind::Erased, 1), linked(2), change(3, ChangeKind::Erased, 1)], 3);
        let Taken::Changes(changes, _) = ring.take(1, 0, 9) else { panic!("all are here") };
        let users: Vec<&str> = changes.iter().map(|change| change.user_id.as_str()).collect();
        assert_eq!(users, ["user", "", "user"]);
    }

    #[test]
    fn nothing_of_the_erased_is_kept() {
        let mut ring = Ring::new(9);
        ring.restart(1, 0);
        ring.add(vec![linked(1), change(2, ChangeKind::Linked, 2), change(3, ChangeKind::Erased, 1)], 3);
        let Taken::Changes(changes, _) = ring.take(1, 0, 9) else { panic!("all are here") };
        let users: Vec<&str> = changes.iter().map(|change| change.user_id.as_str()).collect();
        assert_eq!(users, ["", "user", "user"]);
        assert_eq!(changes[0].previous_user_id, None);
    }
}
