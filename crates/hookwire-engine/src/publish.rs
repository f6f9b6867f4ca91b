//! From parsed events into the queue: each into the shard its object belongs to.
//!
//! Invariant: events of one object go into one shard, in the order given.

use std::collections::BTreeMap;

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
    let mut duplicates = vec![false; events.len()];
    let mut left: Vec<usize> = (0..events.len()).collect();
    while !left.is_empty() {
        let open = queue.open_shards();
        let mut by_shard: BTreeMap<Shard, (Vec<usize>, Vec<NewEvent>)> = BTreeMap::new();
        for place in std::mem::take(&mut left) {
            let event = &events[place];
            let (places, batch) = by_shard.entry(open_shard(event, &open)).or_default();
            places.push(place);
            batch.push(NewEvent { id: event.id.clone(), payload: Bytes::from(event.to_payload()) });
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
    let receipts = events.iter().zip(duplicates);
    Ok(receipts.map(|(event, duplicate)| Receipt { id: event.id.clone(), duplicate }).collect())
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
}
