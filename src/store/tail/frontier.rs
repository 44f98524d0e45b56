//! How far the events are settled: up to where no transaction can still commit
//! one.
//!
//! Ids that follow each other without a gap are all committed, and so settled.
//! Where one is missing it is either still to be committed, or was given up. Then
//! the transactions that hold the writers' lock on the table are noted, *after*
//! the highest id drawn so far; once each of them has ended, whatever is missing
//! up to that id is missing for ever. Transactions that write no events hold
//! nobody up.
//!
//! A snapshot's bounds cannot stand in for the lock: its `xmax` follows the last
//! transaction that *ended*, so the one that is writing may lie beyond it, with
//! `xmin` equal to `xmax`.

use sqlx::PgConnection;

use crate::store::StoreError;
use crate::store::events::{self, Epoch, Mark};

/// The most ids that are read at once.
const IDS_MAX: i64 = 4096;

/// How far the table is settled.
pub(super) struct Frontier {
    epoch: Option<Epoch>,
    known: Option<Known>,
    barrier: Option<Barrier>,
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The last settled event: what may be told. It is committed, so no crash
    /// takes it back, or has its id drawn again.
    at: i64,
    /// Up to which id everything is settled, whether it exists or not.
    through: i64,
}

/// What must end before something missing is given up.
struct Barrier {
    /// Up to which id that settles everything.
    drawn: i64,
    /// The transactions.
    writers: Vec<String>,
}

impl Frontier {
    /// Of no history yet.
    pub fn unknown() -> Self {
        Self { epoch: None, known: None, barrier: None }
    }

    /// Of a history of which nothing is known yet.
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..Self::unknown() }
    }

    /// Whether it goes on in what was found. A sequence that has gone back behind
    /// a committed event is another history too.
    pub fn is_of(&self, mark: &Mark) -> bool {
        self.epoch == Some(mark.epoch) && self.known.is_none_or(|known| mark.drawn >= known.at)
    }

    /// After a lost connection: the server may have crashed, and ids that were
    /// drawn and not committed may be drawn again.
    pub fn doubt(&mut self) {
        self.barrier = None;
        if let Some(known) = &mut self.known {
            known.through = known.at;
        }
    }

    /// The last settled event.
    pub fn at(&self) -> Option<i64> {
        self.known.map(|known| known.at)
    }

    /// How many of the ids drawn are not settled.
    pub fn behind(&self, mark: &Mark) -> i64 {
        match self.known {
            Some(known) => mark.drawn.saturating_sub(known.through).max(0),
            // At least one, so that the next look comes soon.
            None => mark.drawn.max(1),
        }
    }

    /// Moves it as far as can be seen. Tells whether there is more to see at once.
    pub async fn look(&mut self, connection: &mut PgConnection, mark: &Mark) -> Result<bool, StoreError> {
        if self.known.is_some_and(|known| mark.drawn < known.through) {
            // Ids have been given back: the server crashed behind something that hid it.
            self.doubt();
        }
        if let Some(known) = &mut self.known {
            if mark.drawn <= known.through {
                return Ok(false);
            }
            let ids = events::ids(connection, known.through, mark.drawn, IDS_MAX).await?;
            known.advance(&ids);
            let through = known.through;
            self.barrier.take_if(|barrier| barrier.drawn <= through);
            if through >= mark.drawn {
                return Ok(false);
            }
            if i64::try_from(ids.len()).is_ok_and(|length| length >= IDS_MAX) && ids.last() == Some(&through)
            {
                return Ok(true);
            }
        }
        let writers = events::writers(connection).await?;
        let barrier = self.stop_at(mark.drawn, writers);
        let Some(drawn) = barrier else { return Ok(false) };
        // A statement of its own, so that it sees what those have committed.
        let last = events::last(connection, drawn).await?;
        let before = self.at().unwrap_or(mark.floor);
        self.known = Some(Known { at: last.unwrap_or(before).max(before), through: drawn });
        Ok(drawn < mark.drawn)
    }

    /// Takes note of who is writing. Answers up to which id nobody is any more.
    fn stop_at(&mut self, drawn: i64, writers: Vec<String>) -> Option<i64> {
        match &mut self.barrier {
            Some(barrier) => barrier.writers.retain(|writer| writers.contains(writer)),
            None => self.barrier = Some(Barrier { drawn, writers }),
        }
        self.barrier.take_if(|barrier| barrier.writers.is_empty()).map(|barrier| barrier.drawn)
    }
}

impl Known {
    /// Takes in committed ids, as far as they follow each other.
    fn advance(&mut self, ids: &[i64]) {
        for id in ids {
            if *id != self.through + 1 {
                break;
            }
            (self.at, self.through) = (*id, *id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(at: i64) -> Known {
        Known { at, through: at }
    }

    fn texts(writers: &[&str]) -> Vec<String> {
        writers.iter().map(|writer| (*writer).to_owned()).collect()
    }

    #[test]
    fn what_follows_without_a_gap_is_settled() {
        for (ids, expected) in [(&[][..], 10), (&[11, 12, 13], 13), (&[12, 13], 10), (&[11, 13, 14], 11)] {
            let mut frontier = known(10);
            frontier.advance(ids);
            assert_eq!(frontier, known(expected), "{ids:?}");
        }
    }

    #[test]
    fn a_gap_waits_for_those_who_wrote_when_it_was_found_and_for_nobody_else() {
        let mut frontier = Frontier::unknown();
        assert_eq!(frontier.stop_at(7, texts(&["3/1", "4/1"])), None);
        assert_eq!(frontier.stop_at(9, texts(&["4/1", "5/1"])), None);
        assert_eq!(frontier.stop_at(9, texts(&["4/1", "3/2"])), None);
        assert_eq!(frontier.stop_at(12, texts(&["5/1", "3/2", "4/2"])), Some(7));
        assert_eq!(frontier.stop_at(12, texts(&["5/1"])), None);
        assert_eq!(frontier.stop_at(15, texts(&[])), Some(12));
        assert_eq!(frontier.stop_at(15, texts(&[])), Some(15), "nobody writes: given up at once");
    }

    #[test]
    fn after_a_lost_connection_only_what_exists_counts() {
        let mut frontier = Frontier { known: Some(Known { at: 5, through: 9 }), ..Frontier::unknown() };
        let _ = frontier.stop_at(12, texts(&["3/1"]));
        frontier.doubt();
        assert_eq!(frontier.known, Some(known(5)));
        assert_eq!(frontier.stop_at(12, texts(&["4/1"])), None, "the barrier was forgotten");
        assert_eq!(frontier.stop_at(13, texts(&[])), Some(12));
    }
}
