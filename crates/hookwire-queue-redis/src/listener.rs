//! Events that are handed over to whoever waits for them: leased as they are published, and read where the wait ends,
//! without a round trip to ask.
//!
//! A shard's listener is one connection that waits. It has subscribed to a channel of its own, where nothing is ever said:
//! by that the server knows whether it is still there. What is handed over stands in a stream that it waits on.
//!
//! Invariants:
//! - Nobody is handed more than it has asked for, and nobody who is not there.
//! - What was handed over is taken once, however often it is read.

use std::collections::VecDeque;
use std::time::Duration;

use hookwire_queue::{LeaseEvents, LeasedEvent, QueueError};
use redis::Value;
use tokio::time::Instant;

use crate::pack;

/// So often events are handed over before it is asked for more.
const TAKES: usize = 32;

/// What is handed over in a shard.
#[derive(Default)]
pub(crate) struct Handed {
    listener: Option<Listener>,
    events: VecDeque<LeasedEvent>,
    /// What was asked for last.
    asked: Option<LeaseEvents>,
    /// When the server was asked last, and its clock then, in microseconds.
    asked_at: Option<(Instant, i64)>,
    /// There is something else to lease, too, which must not wait for long.
    is_not_all: bool,
}

struct Listener {
    name: String,
    /// The token of the last entry that was read in its stream.
    read_to: u64,
    /// How often more will be handed over, at most.
    takes: usize,
    /// Its connection is open.
    is_open: bool,
}

/// How a listener goes by in a script.
pub(crate) struct Asks {
    /// Its name; empty, if there is none.
    pub(crate) name: String,
    /// The entry up to which it has read its stream.
    pub(crate) read_to: String,
    /// How often more it takes without asking.
    pub(crate) takes: usize,
}

impl Handed {
    /// A new listener's name. `None`, if there is one.
    pub(crate) fn new_name(&self) -> Option<String> {
        self.listener.is_none().then(|| format!("{:016x}", fastrand::u64(..)))
    }

    /// A connection listens by this name. `false`: another one does already.
    pub(crate) fn opened(&mut self, name: &str) -> bool {
        if self.listener.is_some() {
            return false;
        }
        self.listener = Some(Listener { name: name.to_owned(), read_to: 0, takes: 0, is_open: true });
        true
    }

    /// The connection that listens by this name is closed. It is forgotten when the server has said what it had not read.
    pub(crate) fn closed(&mut self, name: &str) {
        if let Some(listener) = self.listener.as_mut().filter(|listener| listener.name == name) {
            listener.is_open = false;
        }
    }

    /// The store lost its data, and gives tokens anew.
    pub(crate) fn lost(&mut self) {
        if let Some(listener) = &mut self.listener {
            (listener.is_open, listener.read_to, listener.takes) = (false, 0, 0);
        }
    }

    /// Whether a connection was closed by which something may have been handed over.
    pub(crate) fn is_closed(&self) -> bool {
        self.listener.as_ref().is_some_and(|listener| !listener.is_open)
    }

    /// Whether something was handed over.
    pub(crate) fn is_some(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether what was handed over may come before everything else.
    pub(crate) fn is_all(&self) -> bool {
        !self.is_not_all
    }

    /// There is something else to lease.
    pub(crate) fn is_not_all(&mut self) {
        self.is_not_all = true;
    }

    /// The entry up to which the listener of this name has read its stream. `None`: it does not listen any more.
    pub(crate) fn read_to(&self, name: &str) -> Option<String> {
        let listener = self.listener.as_ref().filter(|listener| listener.is_open && listener.name == name)?;
        Some(entry(listener.read_to))
    }

    /// How the listener goes by where events are leased: it is handed none from then on, until it is said again that
    /// somebody listens.
    pub(crate) fn asks(&mut self, request: &LeaseEvents) -> Asks {
        self.asked = (request.max > 0).then(|| request.clone());
        self.is_not_all = false;
        self.goes_by(0)
    }

    /// What was asked for last, and how the listener goes by, where it has to be said that somebody listens.
    pub(crate) fn asks_anew(&self) -> Option<(LeaseEvents, Asks)> {
        let listener = self.listener.as_ref().filter(|listener| listener.is_open)?;
        let rested = self.rests_until().is_some_and(|rests_until| rests_until <= Instant::now());
        let is_due = rested || listener.takes <= TAKES / 2;
        Some((self.asked.clone().filter(|_| is_due)?, self.goes_by(TAKES)))
    }

    fn goes_by(&self, takes: usize) -> Asks {
        match &self.listener {
            Some(Listener { name, read_to, .. }) => {
                Asks { name: name.clone(), read_to: entry(*read_to), takes }
            }
            None => Asks { name: String::new(), read_to: entry(0), takes: 0 },
        }
    }

    /// Notes how often more is handed over to who went by this name, since then, which is `now` by the store's clock.
    pub(crate) fn answered(&mut self, asks: &Asks, asked_at: Instant, now: i64, takes: usize) {
        self.asked_at = Some((asked_at, now));
        let Some(listener) = self.listener.as_mut().filter(|listener| listener.name == asks.name) else {
            return;
        };
        listener.takes = takes;
        if !listener.is_open && asks.takes == 0 {
            self.listener = None;
        }
    }

    /// Takes in what was read in the stream of a listener of this name.
    pub(crate) fn read(&mut self, name: &str, entries: Value) -> Result<(), QueueError> {
        let Some(listener) = self.listener.as_mut().filter(|listener| listener.name == name) else {
            return Ok(());
        };
        for (token, events) in pack::handed(entries)? {
            if token <= listener.read_to {
                continue;
            }
            listener.read_to = token;
            listener.takes = listener.takes.saturating_sub(1);
            // Leased as they were published; whoever published them looked at their size.
            let leased = events.into_iter().map(|event| {
                let leased_at = event.accepted_at;
                event.leased(token, leased_at, usize::MAX)
            });
            self.events.extend(leased);
        }
        Ok(())
    }

    /// Takes so many events, and tells whether their leases may be older than that.
    pub(crate) fn take(&mut self, max: usize, fresh: Duration) -> (Vec<LeasedEvent>, bool) {
        let oldest = self.events.front().map(|event| event.leased_at.as_micros());
        let age = self.asked_at.zip(oldest).map(|((asked_at, now), leased_at)| {
            let before = Duration::from_micros((now - leased_at).unsigned_abs());
            let since = asked_at.elapsed();
            if leased_at < now { since + before } else { since.saturating_sub(before) }
        });
        let count = self.events.len().min(max);
        (self.events.drain(..count).collect(), age.is_none_or(|age| age > fresh))
    }

    /// Puts back what was taken, and could not be used.
    pub(crate) fn put_back(&mut self, events: Vec<LeasedEvent>) {
        for event in events.into_iter().rev() {
            self.events.push_front(event);
        }
    }

    /// Until when the listener need not say again that it listens.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        let listener = self.listener.as_ref()?;
        let lease = self.asked.as_ref()?.lease;
        (listener.takes > 0).then_some(self.asked_at?.0 + lease / 2)
    }
}

/// The name of a listener's stream, and of its channel.
pub(crate) fn stream(tag: &str, name: &str) -> String {
    format!("{tag}to:{name}")
}

fn entry(token: u64) -> String {
    format!("{token}-1")
}

#[cfg(test)]
mod tests {
    use hookwire_model::Timestamp;
    use hookwire_queue::WorkerId;

    use super::*;

    fn asked() -> LeaseEvents {
        let (worker, lease) = (WorkerId::new("worker"), Duration::from_secs(10));
        LeaseEvents { worker, lease, max: 100, suspects_max: 1 }
    }

    fn entries(tokens: impl IntoIterator<Item = u64>) -> Value {
        let text = |text: String| Value::BulkString(text.into_bytes());
        let entry = |token| {
            let fields = vec![text(format!("{token}-1700000000000000")), text(format!("evt-{token} {{}}"))];
            Value::Array(vec![text(format!("{token}-1")), Value::Array(fields)])
        };
        Value::Array(tokens.into_iter().map(entry).collect())
    }

    fn ids(events: &[LeasedEvent]) -> Vec<&str> {
        events.iter().map(|event| event.id.as_str()).collect()
    }

    /// One that listens since so long ago, when the store's clock showed this.
    fn listening(age: Duration, now: Timestamp) -> Handed {
        let mut handed = Handed::default();
        assert!(handed.opened("me") && !handed.opened("another"));
        handed.asks(&asked());
        let (_, asks) = handed.asks_anew().unwrap();
        handed.answered(&asks, Instant::now() - age, now.as_micros(), TAKES);
        handed
    }

    fn published() -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }

    #[test]
    fn what_is_read_twice_is_taken_once_and_in_order() {
        let mut handed = listening(Duration::ZERO, published());
        handed.read("me", entries([1, 2])).unwrap();
        handed.read("me", entries([1, 2, 3])).unwrap();
        handed.read("another", entries([4])).unwrap();
        assert_eq!((handed.read_to("me").as_deref(), handed.read_to("another")), (Some("3-1"), None));
        let (first, _) = handed.take(2, Duration::MAX);
        assert_eq!(ids(&first), ["evt-1", "evt-2"]);
        handed.put_back(first);
        assert_eq!(ids(&handed.take(9, Duration::MAX).0), ["evt-1", "evt-2", "evt-3"]);
        handed.read("me", Value::Nil).unwrap_err();
    }

    #[test]
    fn the_age_of_a_lease_counts_from_when_it_began() {
        let second = Duration::from_secs(1);
        for (age, asked_before, is_stale) in
            [(0, 0, false), (2, 0, true), (100, 100, false), (100, 98, true), (0, 100, false), (0, -5, true)]
        {
            let micros = published().as_micros() - i64::from(asked_before) * 1_000_000;
            let now = Timestamp::from_micros(micros);
            let mut handed = listening(second * age, now);
            handed.read("me", entries([1])).unwrap();
            assert_eq!(handed.take(1, second).1, is_stale, "{age} {asked_before}");
        }
    }

    #[test]
    fn it_asks_anew_when_half_of_what_it_takes_has_come() {
        let mut handed = Handed::default();
        assert!(handed.asks_anew().is_none(), "nobody listens");
        handed.opened("me");
        assert!(handed.asks_anew().is_none(), "nothing was asked for yet");
        assert_eq!(handed.asks(&asked()).takes, 0);
        let (_, asks) = handed.asks_anew().unwrap();
        assert_eq!((asks.name.as_str(), asks.read_to.as_str(), asks.takes), ("me", "0-1", TAKES));
        handed.answered(&asks, Instant::now(), 0, TAKES);
        handed.read("me", entries(1..16)).unwrap();
        assert!(handed.asks_anew().is_none());
        handed.read("me", entries(16..17)).unwrap();
        assert_eq!(handed.asks_anew().unwrap().1.read_to, "16-1");
        handed.asks(&LeaseEvents { max: 0, ..asked() });
        assert!(handed.asks_anew().is_none(), "none are wanted");
    }

    #[test]
    fn one_whose_connection_closed_is_forgotten_when_its_stream_was_read() {
        let mut handed = listening(Duration::ZERO, published());
        handed.closed("another");
        assert!(!handed.is_closed());
        handed.closed("me");
        assert!(handed.is_closed() && handed.read_to("me").is_none() && handed.new_name().is_none());
        let asks = handed.asks(&asked());
        assert_eq!((asks.name.as_str(), asks.takes), ("me", 0));
        handed.read("me", entries([5])).unwrap();
        handed.answered(&asks, Instant::now(), 0, 0);
        assert!(handed.is_some() && !handed.is_closed() && handed.new_name().is_some());
    }
}
