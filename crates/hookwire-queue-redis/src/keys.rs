//! Every key of a store: its name, type, what it holds, and who writes it.
//!
//! All keys of a shard begin with its **hash tag**, `{hw:<shard>}:`, so that a Redis Cluster keeps them in one slot and
//! each atomic step is one script. `hw` is the default [prefix](crate::RedisOptions::prefix).
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `meta` | hash | the layout's version (`v`), counters, the end of each cursor; read and written by every script |
//! | `in` | stream | events published by plain `XADD`, until the next lease takes them in |
//! | `e:<number>`, `batches` | strings, sorted set | events that were published together, with where each ends before them; their first numbers, how many they are, when they were accepted |
//! | `new:<name>` | string | a batch on its way into the store |
//! | `events` | stream | other events, under `<number>-<time>`: field `e` (`p`: by plain `XADD`), id, a blank, payload |
//! | its group `lease` | | how far events were read; it holds nothing back |
//! | `sizes:<thousand>` | string | seven digits of the size of each event that was never leased |
//! | `kept`, `old` | hash, sorted set | the same for events older than the history's beginning that are still wanted |
//! | `ids`, `id_queue` | hash, list | event ids that are recognised, and their order of acceptance, by batch |
//! | `evt` | hash | number -> what became of the event, if that is not in a block |
//! | `f:<name>`, `blocks` | strings, hash | what one settlement said of many events of a run, and where in it what is said of each stands; how many of them still need it |
//! | `rec`, `att` | hashes | deliveries that were stored one by one, and their attempts |
//! | `open`, `dead`, `closed` | sorted sets | events with unfinished deliveries, with dead letters, finished later |
//! | `runs`, `run_queue`, `run_leases` | hash, list, sorted set | events leased together, what became of each, and in which blocks; until when they are leased |
//! | `spans` | sorted set | runs with events in blocks, by their first numbers |
//! | `unsettled`, `free`, `suspects`, `losses` | sorted sets, hash | events leased before: all, released, lost, how often |
//! | `leases`, `held` | sorted set, hash | single leases of events (`E<number>`) and deliveries: until when, token |
//! | `replies`, `replies_before` | hashes | answers to settlements, should they be asked for again |
//! | `b:<endpoint>` | sorted set | an endpoint's backlog by due time; `b:-` where there is no endpoint yet |
//! | `backlogs` | hash | endpoint -> how many deliveries wait for it; endpoint and `+` -> the bytes of their payloads |
//! | `places`, `ready` | sorted sets | endpoints by the time at which their first delivery may go; those whose time has come |
//! | `stalled` | sorted set | deliveries that wait for an earlier event to be settled |
//! | `o:<order>` | sorted set | the unfinished deliveries of an order |
//! | `holds` | hash | endpoint -> until when it is held |
//! | `endpoints` | hash | endpoint -> version, a blank, state |
//! | `news_events`, `news_deliveries` | streams of one entry | tell those who wait that there may be something to lease |
//! | `listeners` | hash | those who wait for events: until when they are expected, how long a lease of theirs lasts, how often they are handed some |
//! | `to:<listener>` | stream | events that were leased to one who waited, under `<token>-1`: field `<number>-<time>`, id, a blank, payload |
//! | `replicas` | string | nothing; it is written so that replicas can be asked whether they have it, and what was written before |
//! | `probe` | - | never there: writing nothing to it tells whether the server takes writes |
//!
//! Beside the shards there is `{hw:shards}`, a string: how many there are, or how many were made at each change of the
//! number, with blanks between. The last ones take new events. In those before, `meta` has `closed`, and `in` is a string.
//!
//! Invariant: an event is in a batch, in the stream `events`, or in `kept`, and never in two of them; it goes when nothing
//! is left to do for it and the history has no room for it.

use hookwire_model::{DeliveryId, EndpointId, Sequence, Shard};

/// The version of the layout; the scripts refuse a newer one, and turn an older one into it with their next write.
/// Version 1 kept attempts as JSON, version 2 had a field in `evt` for each event in a block, and version 3 had no batches;
/// all are still read.
pub(crate) const LAYOUT_VERSION: u64 = 4;

/// The beginning of all keys of a shard.
pub(crate) fn tag(prefix: &str, shard: Shard) -> String {
    format!("{{{prefix}:{shard}}}:")
}

/// The key that tells how many shards there are.
pub(crate) fn shards(prefix: &str) -> String {
    format!("{{{prefix}:shards}}")
}

/// A delivery as scripts name it: 12 hex digits of its event's number, 16 of its digest. Sorts as the id does.
pub(crate) fn delivery(id: DeliveryId) -> String {
    format!("{:012x}{:016x}", id.sequence().0, id.digest())
}

/// A delivery's id from its name.
pub(crate) fn delivery_id(shard: Shard, name: &str) -> Option<DeliveryId> {
    let (sequence, digest) = name.split_at_checked(12)?;
    let sequence = u64::from_str_radix(sequence, 16).ok()?;
    let digest = u64::from_str_radix(digest, 16).ok()?;
    Some(DeliveryId::from_parts(shard, Sequence(sequence), digest))
}

/// An endpoint as scripts name it.
pub(crate) fn endpoint(id: EndpointId) -> String {
    format!("{:016x}", id.as_u64())
}

/// An endpoint from its name.
pub(crate) fn endpoint_id(name: &str) -> Option<EndpointId> {
    u64::from_str_radix(name, 16).ok().map(EndpointId::from_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_sort_as_ids() {
        let ids = [(1, 5), (1, u64::MAX), (2, 0), (1 << 40, 1 << 63)];
        let ids = ids.map(|(seq, digest)| DeliveryId::from_parts(Shard(3), Sequence(seq), digest));
        assert!(ids.is_sorted() && ids.map(delivery).is_sorted());
        assert_eq!(ids.map(|id| delivery_id(Shard(3), &delivery(id)).unwrap()), ids);
        let place = EndpointId::from_u64(7);
        assert_eq!(endpoint_id(&endpoint(place)), Some(place));
        assert_eq!(delivery_id(Shard(0), "short"), None);
    }
}
