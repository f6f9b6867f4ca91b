//! Which endpoints have waiting deliveries, and since or until when: what lets the writer ask the file only about
//! endpoints that are due.
//!
//! Invariant: every endpoint with a waiting delivery that may go has an entry, and none is due later than its first
//! such delivery. Only deliveries that wait for an earlier event to be settled may be missing; then the endpoint is
//! marked as stalled.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use hookwire_model::{EndpointId, Timestamp};

/// An endpoint, or the deliveries that have none yet.
pub(crate) type Place = Option<EndpointId>;

/// Endpoints by the time at which their first delivery is due.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    due: BTreeMap<Place, Timestamp>,
    by_time: BTreeSet<(Timestamp, Place)>,
    holds: BTreeMap<EndpointId, Timestamp>,
    /// Endpoints that have deliveries besides, which wait for an earlier event to be settled (O2).
    stalled: BTreeSet<Place>,
    /// How much waits for each endpoint, as the file has it or will have it with the next commit.
    sizes: BTreeMap<EndpointId, Size>,
    /// The endpoints whose size is to be written.
    resized: BTreeSet<EndpointId>,
}

/// How much waits for an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) deliveries: u64,
    pub(crate) bytes: u64,
}

impl Backlog {
    /// When an endpoint may be looked at next; its hold considered.
    fn time(&self, place: Place, due: Timestamp) -> Timestamp {
        let hold = place.and_then(|id| self.holds.get(&id)).copied();
        hold.map_or(due, |hold| hold.max(due))
    }

    /// Notes when an endpoint's first delivery is due; `None`: it has none.
    pub(crate) fn set(&mut self, place: Place, due: Option<Timestamp>) {
        if let Some(before) = self.due.remove(&place) {
            self.by_time.remove(&(self.time(place, before), place));
        }
        if let Some(due) = due {
            self.due.insert(place, due);
            self.by_time.insert((self.time(place, due), place));
        }
    }

    /// Notes that an endpoint has a delivery that is due then, perhaps besides others.
    pub(crate) fn add(&mut self, place: Place, due: Timestamp) {
        if self.due.get(&place).is_none_or(|before| due < *before) {
            self.set(place, Some(due));
        }
    }

    /// Notes that an endpoint has deliveries that wait for an earlier event to be settled.
    pub(crate) fn stall(&mut self, place: Place) {
        self.stalled.insert(place);
    }

    /// An event was settled: what waited for that is to be looked up again.
    pub(crate) fn unstall(&mut self) -> impl Iterator<Item = Place> {
        std::mem::take(&mut self.stalled).into_iter()
    }

    /// Takes over a size that was read.
    pub(crate) fn has(&mut self, endpoint: EndpointId, size: Size) {
        self.sizes.insert(endpoint, size);
    }

    /// How much waits for an endpoint.
    pub(crate) fn size(&self, endpoint: EndpointId) -> Size {
        self.sizes.get(&endpoint).copied().unwrap_or_default()
    }

    /// A delivery with a payload of so many bytes begins to wait.
    pub(crate) fn grow(&mut self, place: Place, bytes: u64) {
        let Some(endpoint) = place else { return };
        let size = self.sizes.entry(endpoint).or_default();
        size.deliveries += 1;
        size.bytes += bytes;
        self.resized.insert(endpoint);
    }

    /// One waits no longer.
    pub(crate) fn shrink(&mut self, place: Place, bytes: u64) {
        let Some(endpoint) = place else { return };
        let btree_map::Entry::Occupied(mut size) = self.sizes.entry(endpoint) else { return };
        size.get_mut().deliveries -= 1;
        size.get_mut().bytes -= bytes;
        if size.get().deliveries == 0 {
            size.remove();
        }
        self.resized.insert(endpoint);
    }

    /// The endpoints whose sizes changed since this was last asked, with them; nothing waits for those without.
    pub(crate) fn resized(&mut self) -> Vec<(EndpointId, Option<Size>)> {
        let resized = std::mem::take(&mut self.resized).into_iter();
        resized.map(|endpoint| (endpoint, self.sizes.get(&endpoint).copied())).collect()
    }

    /// Keeps an endpoint from being due before `until`; `None` ends that.
    pub(crate) fn hold(&mut self, endpoint: EndpointId, until: Option<Timestamp>) {
        let place = Some(endpoint);
        let due = self.due.get(&place).copied();
        if let Some(due) = due {
            self.by_time.remove(&(self.time(place, due), place));
        }
        match until {
            Some(until) => self.holds.insert(endpoint, until),
            None => self.holds.remove(&endpoint),
        };
        if let Some(due) = due {
            self.by_time.insert((self.time(place, due), place));
        }
    }

    /// The endpoints that are due, in turn: beginning after the one served last.
    pub(crate) fn due(&self, now: Timestamp, served: Option<Place>) -> Vec<Place> {
        let due = self.by_time.iter().take_while(|(time, _)| *time <= now);
        let mut due: Vec<Place> = due.map(|(_, place)| *place).collect();
        due.sort_unstable();
        if let Some(served) = served {
            let begin = due.partition_point(|place| *place <= served);
            due.rotate_left(begin);
        }
        due
    }

    /// All endpoints by the time at which they are due, the earliest first.
    pub(crate) fn by_time(&self) -> impl Iterator<Item = (Timestamp, Place)> {
        self.by_time.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_moves_an_endpoint_and_its_end_moves_it_back() {
        let place = |id| Some(EndpointId::from_u64(id));
        let at = Timestamp::from_secs;
        let mut backlog = Backlog::default();
        backlog.add(place(1), at(10));
        backlog.add(place(2), at(11));
        backlog.add(place(2), at(12));
        backlog.hold(EndpointId::from_u64(1), Some(at(50)));
        assert_eq!(backlog.due(at(20), None), [place(2)]);
        assert_eq!(backlog.due(at(50), Some(place(1))), [place(2), place(1)]);
        backlog.hold(EndpointId::from_u64(1), None);
        assert_eq!(backlog.due(at(10), None), [place(1)]);
        backlog.set(place(1), None);
        backlog.stall(place(1));
        assert_eq!(backlog.by_time().collect::<Vec<_>>(), [(at(11), place(2))]);
        assert_eq!(backlog.unstall().collect::<Vec<_>>(), [place(1)]);
    }
}
