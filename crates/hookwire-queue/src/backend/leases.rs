//! The leases that a process has given out, and the replies to settlements that may be asked for again.
//!
//! Invariants:
//! - A subject has at most one lease; a token is never used twice.
//! - Changes can be taken back until they are committed, so that leases never tell something else than the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hookwire_model::{DeliveryId, Timestamp};

use crate::{Lease, Settled, Subject};

/// How many settlements are remembered, in case a worker asks again: at full speed those of a second or two, at a few
/// megabytes.
const REMEMBERED_MAX: usize = 1 << 16;

/// A lease that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<T> {
    /// Tells it from others of the same subject.
    pub token: u64,
    /// When it runs out.
    pub until: Timestamp,
    /// What the backend wants to know of the subject.
    pub data: T,
}

/// The leases of one store.
#[derive(Debug)]
pub struct Leases<T> {
    held: BTreeMap<Subject, Held<T>>,
    by_time: BTreeSet<(Timestamp, Subject)>,
    next_token: u64,
    settled: BTreeMap<u64, Vec<(DeliveryId, Option<u64>)>>,
    settled_order: VecDeque<u64>,
    undo: Vec<Undo<T>>,
}

#[derive(Debug)]
enum Undo<T> {
    Lease(Subject, Option<Held<T>>),
    Settled(u64),
}

impl<T: Clone> Leases<T> {
    /// No leases. Tokens begin after `first_token`, which a durable store makes larger at each start.
    pub fn new(first_token: u64) -> Self {
        Leases {
            held: BTreeMap::new(),
            by_time: BTreeSet::new(),
            next_token: first_token,
            settled: BTreeMap::new(),
            settled_order: VecDeque::new(),
            undo: Vec::new(),
        }
    }

    /// Gives out a lease that lasts `lease` from `now`, in place of any other one of the subject.
    pub fn give(&mut self, subject: Subject, now: Timestamp, lease: Duration, data: T) -> Lease {
        self.next_token += 1;
        let token = self.next_token;
        self.set(subject, Some(Held { token, until: now.saturating_add(lease), data }));
        Lease { subject, token }
    }

    /// The lease, if it is still held.
    pub fn find(&self, lease: &Lease) -> Option<&Held<T>> {
        self.held.get(&lease.subject).filter(|held| held.token == lease.token)
    }

    /// The lease of a subject, whoever holds it.
    pub fn of(&self, subject: Subject) -> Option<&Held<T>> {
        self.held.get(&subject)
    }

    /// Makes a lease last `lease` from `now`; `false` if it is no longer held.
    pub fn extend(&mut self, lease: &Lease, now: Timestamp, by: Duration) -> bool {
        let Some(held) = self.find(lease).cloned() else { return false };
        self.set(lease.subject, Some(Held { until: now.saturating_add(by), ..held }));
        true
    }

    /// Ends the lease of a subject, whoever holds it.
    pub fn end(&mut self, subject: Subject) {
        self.set(subject, None);
    }

    /// Ends the leases whose time is over, and tells their subjects, those that ran out first before the others.
    pub fn run_out(&mut self, now: Timestamp) -> Vec<(Subject, T)> {
        let mut over = Vec::new();
        while let Some(&(until, subject)) = self.by_time.first()
            && until <= now
        {
            if let Some(held) = self.held.get(&subject) {
                over.push((subject, held.data.clone()));
            }
            self.set(subject, None);
        }
        over
    }

    /// When the next lease runs out.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.by_time.first().map(|&(until, _)| until)
    }

    /// All that is held, by subject.
    pub fn iter(&self) -> impl Iterator<Item = (Subject, &Held<T>)> {
        self.held.iter().map(|(&subject, held)| (subject, held))
    }

    /// Notes that the settlement under this token was carried out, and what was replied: which leases it gave, and `None`
    /// for a delivery that there was no room for in its backlog.
    pub fn remember(&mut self, token: u64, reply: Vec<(DeliveryId, Option<u64>)>) {
        self.undo.push(Undo::Settled(token));
        self.settled.insert(token, reply);
        self.settled_order.push_back(token);
    }

    /// Adds to a reply what was replied to the settlement under this token; `false` if it was not carried out, or too
    /// long ago.
    pub fn repeat(&self, token: u64, reply: &mut Settled) -> bool {
        let Some(replied) = self.settled.get(&token) else { return false };
        for &(id, token) in replied {
            match token {
                Some(token) => reply.leases.push((id, Lease { subject: Subject::Delivery(id), token })),
                None => reply.over.push(id),
            }
        }
        true
    }

    /// Keeps the changes since the last commit.
    pub fn commit(&mut self) {
        self.undo.clear();
        while self.settled_order.len() > REMEMBERED_MAX {
            if let Some(token) = self.settled_order.pop_front() {
                self.settled.remove(&token);
            }
        }
    }

    /// Takes back the changes since the last commit. Tokens that were given out are not given out again.
    pub fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Lease(subject, before) => self.write(subject, before),
                Undo::Settled(token) => {
                    self.settled.remove(&token);
                    self.settled_order.pop_back();
                }
            };
        }
    }

    fn set(&mut self, subject: Subject, held: Option<Held<T>>) {
        let before = self.held.get(&subject).cloned();
        self.undo.push(Undo::Lease(subject, before));
        self.write(subject, held);
    }

    fn write(&mut self, subject: Subject, held: Option<Held<T>>) {
        let until = held.as_ref().map(|held| held.until);
        let before = match held {
            Some(held) => self.held.insert(subject, held),
            None => self.held.remove(&subject),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before.until, subject));
        }
        if let Some(until) = until {
            self.by_time.insert((until, subject));
        }
    }
}

#[cfg(test)]
mod tests {
    use hookwire_model::Sequence;

    use super::*;

    #[test]
    fn what_was_not_committed_can_be_taken_back() {
        let now = Timestamp::from_secs(100);
        let mut leases = Leases::new(0);
        let first = leases.give(Subject::Event(Sequence(1)), now, Duration::from_secs(5), 'a');
        leases.commit();
        let second = leases.give(Subject::Event(Sequence(2)), now, Duration::from_secs(5), 'b');
        leases.end(first.subject);
        leases.remember(first.token, vec![]);
        leases.roll_back();
        assert!(leases.find(&first).is_some() && leases.find(&second).is_none());
        assert!(!leases.repeat(first.token, &mut Settled::default()));
        assert_eq!(leases.next_end(), Some(Timestamp::from_secs(105)));
        let third = leases.give(Subject::Event(Sequence(2)), now, Duration::from_secs(5), 'b');
        assert_ne!(second.token, third.token);
    }

    #[test]
    fn leases_run_out_in_order() {
        let now = Timestamp::from_secs(100);
        let mut leases = Leases::new(0);
        let late = leases.give(Subject::Event(Sequence(1)), now, Duration::from_secs(9), ());
        let early = leases.give(Subject::Event(Sequence(2)), now, Duration::from_secs(5), ());
        assert!(leases.extend(&early, now, Duration::from_secs(6)));
        assert_eq!(leases.run_out(Timestamp::from_secs(105)), []);
        assert_eq!(leases.run_out(Timestamp::from_secs(200)), [(early.subject, ()), (late.subject, ())]);
        assert!(!leases.extend(&late, now, Duration::from_secs(1)));
    }
}
