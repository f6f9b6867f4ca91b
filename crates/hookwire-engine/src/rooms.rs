//! Rooms: how many attempts are in flight, per endpoint and in all.
//!
//! Invariants:
//! - An attempt in flight holds exactly one [`Room`], which gives its place back when it is dropped, however that comes
//!   about.
//! - No endpoint has more attempts in flight than its webhook's concurrency, and the worker no more than its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hookwire_model::EndpointId;

/// The places for attempts in flight.
#[derive(Debug)]
pub(crate) struct Rooms {
    /// Places that are free in the worker.
    free: AtomicUsize,
    /// Attempts in flight per endpoint, with the endpoint's limit; endpoints without any are not here. A short section,
    /// never held across an await.
    busy: Mutex<BTreeMap<EndpointId, Busy>>,
}

#[derive(Debug)]
struct Busy {
    in_flight: u32,
    limit: u32,
}

/// A place for one attempt; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Room {
    rooms: Arc<Rooms>,
    endpoint: EndpointId,
}

impl Rooms {
    pub(crate) fn new(concurrency: usize) -> Arc<Self> {
        Arc::new(Rooms { free: AtomicUsize::new(concurrency), busy: Mutex::new(BTreeMap::new()) })
    }

    /// How many attempts more the worker may have in flight.
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Takes a place at an endpoint, if endpoint and worker have one.
    pub(crate) fn try_enter(self: &Arc<Self>, endpoint: EndpointId, limit: u32) -> Option<Room> {
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1)).ok()?;
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let place = busy.entry(endpoint).or_insert(Busy { in_flight: 0, limit });
        place.limit = limit;
        if place.in_flight >= limit {
            drop(busy);
            self.free.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        place.in_flight += 1;
        drop(busy);
        Some(Room { rooms: Arc::clone(self), endpoint })
    }

    /// What is left at the endpoints that have attempts in flight, by id.
    pub(crate) fn left(&self) -> Vec<(EndpointId, u32)> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.iter()
            .map(|(endpoint, place)| (*endpoint, place.limit.saturating_sub(place.in_flight)))
            .collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut busy = self.rooms.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = busy.get_mut(&self.endpoint) {
            place.in_flight -= 1;
            if place.in_flight == 0 {
                busy.remove(&self.endpoint);
            }
        }
        drop(busy);
        self.rooms.free.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_and_the_worker_have_their_limits() {
        let rooms = Rooms::new(3);
        let (a, b) = (EndpointId::from_u64(1), EndpointId::from_u64(2));
        let first = rooms.try_enter(a, 2).unwrap();
        let second = rooms.try_enter(a, 2).unwrap();
        assert!(rooms.try_enter(a, 2).is_none(), "the endpoint is full");
        let third = rooms.try_enter(b, 2).unwrap();
        assert!(rooms.try_enter(b, 2).is_none(), "the worker is full");
        assert_eq!(rooms.left(), [(a, 0), (b, 1)]);
        drop((first, second, third));
        assert_eq!((rooms.free(), rooms.left()), (3, vec![]));
    }
}
