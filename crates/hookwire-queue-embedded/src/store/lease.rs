//! Leasing deliveries: fair turns between endpoints, the earliest due first within each.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{DeliveryId, DeliveryState, EndpointId, EventId, RuleName, Timestamp, WebhookName};
use hookwire_queue::{Lease, LeaseDeliveries, LeasedDeliveries, LeasedDelivery, Subject};
use rusqlite::params;

use super::{Failure, Store};
use crate::backlog::Place;
use crate::row::{delivery_id, digest_column, endpoint_column, key};

/// An endpoint's deliveries that may go now, as far as they were read.
struct Turn {
    place: Place,
    room: u32,
    ready: VecDeque<(Timestamp, DeliveryId)>,
    /// What was read last, to read on from there.
    last: Option<(Timestamp, DeliveryId)>,
    /// When the one after those is due, if it is not due yet.
    next: Option<Timestamp>,
    /// Whether there may be more to read that is due.
    more: bool,
    /// Whether some of it waits for an earlier event to be settled (O2).
    stalled: bool,
}

impl Store<'_> {
    /// Leases due deliveries. `stamp` was taken before the call was sent.
    pub(crate) fn lease_deliveries(
        &mut self,
        (request, stamp): &(LeaseDeliveries, u64),
    ) -> Result<LeasedDeliveries, Failure> {
        let rooms: BTreeMap<EndpointId, u32> = request.rooms.exceptions.iter().copied().collect();
        let room = |place: Place| match place {
            Some(endpoint) => *rooms.get(&endpoint).unwrap_or(&request.rooms.default),
            None => u32::MAX,
        };
        let chosen = self.choose(request.max, room)?;
        let mut leased = Vec::with_capacity(chosen.len());
        let mut payload = None;
        for id in chosen {
            leased.push(self.lease_delivery(id, request.lease, &mut payload)?);
        }
        let next = self.backlog.by_time().find(|(_, place)| room(*place) > 0);
        if leased.len() < request.max {
            self.news.looked_for_deliveries = Some(*stamp);
        }
        let next_due = next.map(|(time, _)| time.saturating_since(self.now));
        Ok(LeasedDeliveries { deliveries: leased, next_due })
    }

    /// Chooses what to lease, one of each endpoint in turn, and notes what is left in the backlog.
    fn choose(&mut self, max: usize, room: impl Fn(Place) -> u32) -> rusqlite::Result<Vec<DeliveryId>> {
        let places = self.backlog.due(self.now, self.served);
        // Of each endpoint as many are read as it will get if all have as many, and the next one, whose due time is
        // noted; more, where some have fewer.
        let share = max.checked_div(places.len()).unwrap_or(0).max(1) + 1;
        let mut turns = Vec::new();
        for place in places.into_iter().filter(|place| room(*place) > 0) {
            // One more than can be served tells whether something is left behind.
            if turns.len() > max {
                break;
            }
            let mut turn = Turn {
                place,
                room: room(place),
                ready: VecDeque::new(),
                last: None,
                next: None,
                more: true,
                stalled: false,
            };
            self.read_on(&mut turn, share)?;
            if turn.ready.is_empty() {
                // Nothing of it may go although its time has come: it was put off, or it waits for an earlier event.
                self.leave(&turn);
            } else {
                turns.push(turn);
            }
        }
        let mut chosen = Vec::new();
        loop {
            let before = chosen.len();
            for turn in &mut turns {
                if chosen.len() == max || turn.room == 0 {
                    continue;
                }
                if turn.ready.is_empty() && turn.more {
                    self.read_on(turn, share.max(16))?;
                }
                if let Some((_, id)) = turn.ready.pop_front() {
                    turn.room -= 1;
                    self.served = Some(turn.place);
                    chosen.push(id);
                }
            }
            if chosen.len() == before {
                break;
            }
        }
        for mut turn in turns {
            if turn.ready.is_empty() && turn.more {
                self.read_on(&mut turn, 1)?;
            }
            self.leave(&turn);
        }
        Ok(chosen)
    }

    /// Reads up to so many more deliveries of an endpoint that may go now.
    fn read_on(&self, turn: &mut Turn, count: usize) -> rusqlite::Result<()> {
        // In an order only the first one is in this index.
        let sql = "SELECT due_at, seq, digest, in_order FROM deliveries \
                   WHERE state = 0 AND blocked = 0 AND endpoint IS ?1 AND (due_at, seq, digest) > (?2, ?3, ?4) \
                   ORDER BY due_at, seq, digest";
        let (due, (seq, digest)) = match turn.last {
            Some((due, id)) => (due.as_micros(), key(id)),
            None => (-1, (0, digest_column(0))),
        };
        let unsettled = self.first_unsettled();
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params![endpoint_column(turn.place), due, seq, digest])?;
        let mut found = 0;
        turn.more = false;
        while let Some(row) = rows.next()? {
            let due = Timestamp::from_micros(row.get(0)?);
            if due > self.now {
                turn.next = Some(due);
                break;
            }
            if found == count {
                turn.more = true;
                break;
            }
            let id = delivery_id(row.get(1)?, row.get(2)?);
            turn.last = Some((due, id));
            if row.get(3)? && unsettled.is_some_and(|unsettled| unsettled < id.sequence()) {
                turn.stalled = true;
                continue;
            }
            found += 1;
            turn.ready.push_back((due, id));
        }
        Ok(())
    }

    /// Notes when an endpoint's first delivery is due that was not chosen.
    fn leave(&mut self, turn: &Turn) {
        let due = turn.ready.front().map(|(due, _)| *due).or(turn.next);
        self.backlog.set(turn.place, due);
        if turn.stalled {
            self.backlog.stall(turn.place);
        }
    }

    /// Leases one delivery. `payload` holds the one of the delivery before, which is often of the same event.
    fn lease_delivery(
        &mut self,
        id: DeliveryId,
        lease: Duration,
        payload: &mut Option<(DeliveryId, EventId, Bytes)>,
    ) -> rusqlite::Result<LeasedDelivery> {
        let same_event = payload.as_ref().filter(|(last, ..)| last.sequence() == id.sequence()).cloned();
        let (event_id, bytes) = match same_event {
            Some((_, event_id, bytes)) => (event_id, bytes),
            None => {
                let mut find = self.conn.prepare_cached("SELECT id, payload FROM events WHERE seq = ?1")?;
                find.query_row([id.sequence().0], |row| {
                    let event_id =
                        EventId::new(row.get_ref(0)?.as_str()?).expect("only valid ids were written");
                    Ok((event_id, Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?)))
                })?
            }
        };
        let size = bytes.len() as u64;
        *payload = Some((id, event_id.clone(), bytes.clone()));
        let sql = "UPDATE deliveries SET state = 1, due_at = NULL, waiting_reason = NULL WHERE seq = ?1 AND digest = ?2 \
                   RETURNING rule, webhook, endpoint, attempts, interrupted, forgiven, created_at, since";
        let mut update = self.conn.prepare_cached(sql)?;
        let lease = self.leases.give(Subject::Delivery(id), self.now, lease, None);
        *self.counters.count(DeliveryState::Waiting) -= 1;
        *self.counters.count(DeliveryState::Running) += 1;
        let leased = update.query_row(key(id), |row| {
            let accepted_at = Timestamp::from_micros(row.get(6)?);
            Ok(LeasedDelivery {
                lease: Lease { ..lease },
                id,
                event_id,
                payload: bytes,
                accepted_at,
                rule: RuleName::new(row.get_ref(0)?.as_str()?).expect("only valid names were written"),
                webhook: WebhookName::new(row.get_ref(1)?.as_str()?).expect("only valid names were written"),
                endpoint: crate::row::endpoint_id(row.get(2)?),
                attempts: row.get(3)?,
                interrupted: row.get(4)?,
                forgiven: row.get(5)?,
                since: row.get::<_, Option<i64>>(7)?.map_or(accepted_at, Timestamp::from_micros),
            })
        })?;
        self.backlog.shrink(leased.endpoint, size);
        Ok(leased)
    }
}
