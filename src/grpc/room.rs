//! Room for calls: when it is taken, one more is turned away at once, before it asks
//! the database for anything or waits for those that do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for so many calls at once.
#[derive(Clone)]
pub(super) struct Room(Arc<Inner>);

struct Inner {
    max: usize,
    taken: AtomicUsize,
}

impl Room {
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Inner { max, taken: AtomicUsize::new(0) }))
    }

    /// Takes the room of one call, which dropping it gives back; `None` when there
    /// is none left.
    pub fn take(&self) -> Option<Taken> {
        if self.0.taken.fetch_add(1, Ordering::Relaxed) >= self.0.max {
            self.0.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Taken(Arc::clone(&self.0)))
    }
}

/// The room of one call.
pub(super) struct Taken(Arc<Inner>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_again_when_one_has_left() {
        let room = Room::new(2);
        let first = room.take().unwrap();
        let _second = room.take().unwrap();
        assert!(room.take().is_none() && room.take().is_none());
        drop(first);
        let _third = room.take().unwrap();
        assert!(room.take().is_none());
    }
}
