//! Which `webhook-id`s came before: a bounded memory, least recently seen forgotten first.
//!
//! Invariants:
//! - `by_id` and `by_age` hold the same ids, and never more than the capacity.
//! - An id is kept as its 64-bit hash under a key of this process, so that long ids cost no more than short ones. Two
//!   different ids among 100,000 share a hash once in some billion runs, and then a line too many is printed.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// What is known about an id that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// The number of the first request with this id.
    pub(crate) first: u64,
    /// The number of the first request with this id that was answered with a 2xx status. If there is one, the sender need
    /// not have sent it again: this is a duplicate. Otherwise it is a retry.
    pub(crate) accepted: Option<u64>,
}

pub(crate) struct Seen {
    capacity: usize,
    hasher: RandomState,
    by_id: HashMap<u64, Entry>,
    /// Turn of the latest request with the id -> the id.
    by_age: BTreeMap<u64, u64>,
    turn: u64,
}

struct Entry {
    repeat: Repeat,
    turn: u64,
}

impl Seen {
    /// Remembers up to `capacity` ids, at least one.
    pub(crate) fn new(capacity: usize) -> Seen {
        Seen {
            capacity: capacity.max(1),
            hasher: RandomState::new(),
            by_id: HashMap::new(),
            by_age: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Notes that request `number` carried `id` and whether it was accepted; says what was known of the id before.
    pub(crate) fn note(&mut self, id: &[u8], number: u64, accepted: bool) -> Option<Repeat> {
        let id = self.hasher.hash_one(id);
        let before = self.by_id.remove(&id);
        if let Some(entry) = &before {
            self.by_age.remove(&entry.turn);
        } else if self.by_id.len() == self.capacity
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_id.remove(&oldest);
        }
        let before = before.map(|entry| entry.repeat);
        let accepted_by = before.and_then(|repeat| repeat.accepted).or(accepted.then_some(number));
        let first = before.map_or(number, |repeat| repeat.first);
        self.turn += 1;
        self.by_id.insert(id, Entry { repeat: Repeat { first, accepted: accepted_by }, turn: self.turn });
        self.by_age.insert(self.turn, id);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_told_from_a_duplicate() {
        let mut seen = Seen::new(10);
        assert_eq!(seen.note(b"a", 1, false), None);
        assert_eq!(seen.note(b"b", 2, true), None);
        assert_eq!(seen.note(b"a", 3, true), Some(Repeat { first: 1, accepted: None }));
        assert_eq!(seen.note(b"a", 4, true), Some(Repeat { first: 1, accepted: Some(3) }));
        assert_eq!(seen.note(b"b", 5, false), Some(Repeat { first: 2, accepted: Some(2) }));
    }

    #[test]
    fn p17_the_id_that_was_unseen_for_longest_is_forgotten_first() {
        let mut seen = Seen::new(2);
        seen.note(b"a", 1, true);
        seen.note(b"b", 2, true);
        seen.note(b"a", 3, true);
        seen.note(b"c", 4, true);
        assert_eq!(seen.note(b"a", 5, true), Some(Repeat { first: 1, accepted: Some(1) }));
        assert_eq!(seen.note(b"b", 6, true), None, "forgotten, so new again");
    }

    #[test]
    fn p17_memory_stays_within_the_capacity() {
        let mut seen = Seen::new(100);
        for number in 0..1000_u64 {
            seen.note(&(number % 317).to_le_bytes(), number, true);
            assert!(seen.by_id.len() <= 100);
            assert_eq!(seen.by_id.len(), seen.by_age.len());
        }
    }
}
