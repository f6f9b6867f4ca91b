//! From parsed events into the queue: each into the shard its object belongs to.
//!
//! Invariant: events of one object go into one shard, in the order given.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use hookwire_model::{Event, EventId, Shard};
use hookwire_queue::{NewEvent, Published, Queue, QueueError, open_shard};

/// What became of a published event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its idempotency key.
    pub id: EventId,
    /// Whether it was known already, so that nothing was stored.
    pub duplicate: bool,
}

/// Puts events into the queue. When it returns, they are durable; the reply has one entry per event, in order.
///
/// With several shards, an error may leave the events of some shards published; publishing the same events again, by
/// their ids, repeats nothing.
///
/// # Errors
/// [`QueueError`] if the store cannot take them.
///
/// Cancel safety: events whose call was under way may or may not be published.
pub async fn publish<Q: Queue>(queue: &Q, events: &[Event]) -> Result<Vec<Receipt>, QueueError> {
    let mut batch = Batch::new(queue);
    events.iter().for_each(|event| batch.push(event));
    batch.publish(queue).await
}

/// Events on their way into a queue, in the form in which they are stored. Whoever reads many need not keep each one
/// as it was read until the last is there.
#[derive(Debug)]
pub struct Batch {
    /// The shards among which the events were distributed.
    open: Range<u16>,
    events: Vec<(Shard, NewEvent)>,
}

impl Batch {
    /// An empty one, for this queue.
    pub fn new<Q: Queue>(queue: &Q) -> Self {
        Batch { open: queue.open_shards(), events: Vec::new() }
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event) {
        let new = NewEvent { id: event.id.clone(), payload: Bytes::from(event.to_payload()) };
        self.events.push((open_shard(event, &self.open), new));
    }

    /// Puts the events into the queue, as [`publish`] does.
    ///
    /// # Errors
    /// As [`publish`], and with the same effect.
    ///
    /// Cancel safety: as [`publish`].
    pub async fn publish<Q: Queue>(mut self, queue: &Q) -> Result<Vec<Receipt>, QueueError> {
        let mut duplicates = vec![false; self.events.len()];
        let mut left: Vec<usize> = (0..self.events.len()).collect();
        while !left.is_empty() {
            self.distribute(queue.open_shards());
            let mut by_shard: BTreeMap<Shard, (Vec<usize>, Vec<NewEvent>)> = BTreeMap::new();
            for place in std::mem::take(&mut left) {
                let (shard, event) = &self.events[place];
                let (places, batch) = by_shard.entry(*shard).or_default();
                places.push(place);
                batch.push(event.clone());
            }
            for (shard, (places, batch)) in by_shard {
                match queue.publish(shard, batch).await {
                    Ok(published) => {
                        for (place, Published { duplicate, .. }) in places.into_iter().zip(published) {
                            duplicates[place] = duplicate;
                        }
                    }
                    // Others took the place of this shard meanwhile.
                    Err(error) if error.is_transient() && !queue.open_shards().contains(&shard.0) => {
                        left.extend(places);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let receipts = self.events.into_iter().zip(duplicates);
        Ok(receipts.map(|((_, event), duplicate)| Receipt { id: event.id, duplicate }).collect())
    }

    /// Distributes the events anew, where other shards are open than those they were distributed among. That is so rare
    /// that nothing but the payload is kept to tell where an event belongs.
    fn distribute(&mut self, open: Range<u16>) {
        if self.open == open {
            return;
        }
        for (shard, new) in &mut self.events {
            let event = Event::from_payload(&new.payload).expect("a payload reads back as its event");
            *shard = open_shard(&event, &open);
        }
        self.open = open;
    }
}

impl Extend<Event> for Batch {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        events.into_iter().for_each(|event| self.push(&event));
    }
}

#[cfg(test)]
mod tests {
    use hookwire_model::{EventDefaults, Timestamp};

    use super::*;

    fn event(id: &str, object: &str) -> Event {
        let text = format!(r#"{{"id":"{id}","event":"created","object_type":"a.b","data":{{{object}}}}}"#);
        let mut new_id = || unreachable!("the event brings its id");
        Event::parse(&text, &mut EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id }).unwrap()
    }

    #[test]
    fn an_object_stays_in_its_shard() {
        let of = |id: &str, object: &str| open_shard(&event(id, object), &(3..19)).0;
        assert_eq!(of("1", r#""id":7"#), of("2", r#""id":7"#));
        let spread: std::collections::BTreeSet<_> =
            (0..64).map(|id| of("1", &format!(r#""id":{id}"#))).collect();
        assert!(spread.len() > 12, "64 objects fell into {} of 16 shards", spread.len());
        assert!(spread.iter().all(|shard| (3..19).contains(shard)), "others are open: {spread:?}");
        assert_ne!(of("1", ""), of("2", ""), "without an object, the id decides");
    }

    #[test]
    fn when_other_shards_are_open_the_payload_tells_where_an_event_belongs() {
        let events: Vec<Event> =
            (0..20).map(|id| event(&format!("{id}"), &format!(r#""id":{id}"#))).collect();
        let mut batch = Batch { open: 0..4, events: Vec::new() };
        batch.extend(events.clone());
        batch.distribute(4..12);
        let shards: Vec<Shard> = batch.events.iter().map(|(shard, _)| *shard).collect();
        assert_eq!(shards, events.iter().map(|event| open_shard(event, &(4..12))).collect::<Vec<_>>());
    }
}
