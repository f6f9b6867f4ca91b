//! What comes out of Redis again: MessagePack that the scripts read and write, too.
//!
//! Invariant: what the scripts need to know is a member; what they only pass on is a string: an error its JSON, an attempt
//! as all stores keep it.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::str::FromStr;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hookwire_model::{
    Attempt, AttemptError, Delivery, DeliveryId, DeliveryState, Event, EventDefaults, EventError, EventId,
    RuleName, Sequence, Shard, Timestamp, WebhookName,
};
use hookwire_queue::backend::{EventHead, Record, unpack_attempts};
use hookwire_queue::{Fate, Lease, LeasedEvent, NewEvent, Order, PendingDelivery, QueueError, Subject};
use redis::Value;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::damaged;
use crate::keys;

/// The longest time that is told to a script: 126 years, so that no sum leaves the range in which doubles are exact.
const MICROS_MAX: u64 = 4_000_000_000_000_000;

/// A duration as scripts take it.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(MICROS_MAX)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("attempts and errors hold nothing that JSON cannot say")
}

/// An error as it is kept.
pub(crate) fn error_json(error: &AttemptError) -> String {
    json(error)
}

/// What was said of an attempt.
#[derive(Deserialize)]
struct AttemptItem<'a> {
    #[serde(borrow, deserialize_with = "octets")]
    j: Cow<'a, [u8]>,
}

/// A string, whatever its bytes.
fn octets<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, [u8]>, D::Error> {
    struct Octets;

    impl<'de> Visitor<'de> for Octets {
        type Value = Cow<'de, [u8]>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text.as_bytes()))
        }

        fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(bytes))
        }
    }

    deserializer.deserialize_bytes(Octets)
}

/// What was said of a delivery that was delivered when its event was settled.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    k: Cow<'a, str>,
    #[serde(borrow)]
    r: Cow<'a, str>,
    #[serde(borrow)]
    w: Cow<'a, str>,
    #[serde(default, borrow)]
    p: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    ok: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    of: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    a: Vec<AttemptItem<'a>>,
}

/// What was said of an event that was fanned out.
#[derive(Deserialize)]
struct FannedOut<'a> {
    #[serde(borrow)]
    e: Cow<'a, str>,
    #[serde(borrow)]
    o: Cow<'a, str>,
    #[serde(borrow)]
    d: Vec<Item<'a>>,
}

/// An attempt on its way from another store.
#[derive(Serialize)]
struct RestoredAttempt {
    n: u32,
    j: String,
}

pub(crate) const NO_FAILURE: &str = "texts and numbers can always be written to memory";

fn pack(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect(NO_FAILURE)
}

/// A delivery's record, as `record.lua` tells.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Packed {
    s: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) r: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) w: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    o: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ok: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    pub(crate) n: u32,
    pub(crate) i: u32,
    pub(crate) g: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) c: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ls: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    le: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fl: Option<bool>,
    #[serde(default)]
    a: Vec<u32>,
    #[serde(default)]
    ab: u64,
    /// Of a delivery on its way from another store: its attempts.
    #[serde(default, skip_deserializing)]
    l: Vec<RestoredAttempt>,
}

impl From<&Attempt> for RestoredAttempt {
    fn from(attempt: &Attempt) -> Self {
        RestoredAttempt { n: attempt.number, j: json(attempt) }
    }
}

impl Packed {
    /// The order that it keeps to: nothing for one that failed and lets others pass.
    pub(crate) fn order(&self) -> Option<&str> {
        let is_passed = self.fl == Some(true) && self.of.as_deref() == Some("skip");
        self.ok.as_deref().filter(|_| !is_passed)
    }

    /// Of a delivery that another store gave. Its due time is how long that is from now.
    fn restored(pending: &PendingDelivery) -> Self {
        let record = Record::restored(Shard(0), Sequence(0), pending, Timestamp::UNIX_EPOCH);
        let delivery = record.delivery;
        Packed {
            s: state_code(delivery.state).into(),
            k: Some(format!("{:016x}", delivery.id.digest())),
            r: delivery.rule.map(|name| name.as_str().to_owned()),
            w: delivery.webhook.map(|name| name.as_str().to_owned()),
            p: delivery.endpoint.map(keys::endpoint),
            e: delivery.event,
            o: delivery.object_type,
            ok: record.order.as_ref().map(|order| order.key.to_string()),
            of: record.order.as_ref().map(|order| order.on_failure.as_str().to_owned()),
            n: delivery.attempts,
            i: delivery.interrupted,
            g: record.forgiven,
            c: Some(record.since.as_micros()),
            u: delivery.next_attempt_at.map(Timestamp::as_micros),
            wr: delivery.waiting_reason.map(|reason| reason.as_str().to_owned()),
            f: delivery.finished_at.map(Timestamp::as_micros),
            dr: delivery.dead_reason.map(|reason| reason.as_str().to_owned()),
            ls: delivery.last_status,
            le: delivery.last_error.as_ref().map(json),
            fl: record.failed.then_some(true),
            a: record.numbers.into_iter().collect(),
            ab: 0,
            l: pending.attempts.iter().map(RestoredAttempt::from).collect(),
        }
    }

    /// As the rest of hookwire knows it. A delivery that is `held` runs, whatever its record says.
    pub(crate) fn into_record(
        self,
        id: DeliveryId,
        head: &Published,
        held: bool,
    ) -> Result<Record, QueueError> {
        let state = if held { DeliveryState::Running } else { state_of(&self.s)? };
        let waits = state == DeliveryState::Waiting;
        let order = match (self.ok, self.of) {
            (Some(key), Some(on_failure)) => Some(Order { key: key.into(), on_failure: word(&on_failure)? }),
            _ => None,
        };
        let delivery = Delivery {
            id,
            event_id: head.id.clone(),
            event: self.e,
            object_type: self.o,
            rule: self.r.map(|name| RuleName::new(&name)).transpose().map_err(damaged)?,
            webhook: self.w.map(|name| WebhookName::new(&name)).transpose().map_err(damaged)?,
            endpoint: self.p.as_deref().and_then(keys::endpoint_id),
            state,
            waiting_reason: self.wr.filter(|_| waits).map(|text| word(&text)).transpose()?,
            attempts: self.n,
            interrupted: self.i,
            next_attempt_at: self.u.filter(|_| waits).map(Timestamp::from_micros),
            created_at: head.accepted_at,
            finished_at: self.f.filter(|_| !held).map(Timestamp::from_micros),
            last_status: self.ls,
            last_error: self.le.map(|text| serde_json::from_str(&text)).transpose().map_err(damaged)?,
            dead_reason: self.dr.map(|text| word(&text)).transpose()?,
            attempt_log: None,
        };
        Ok(Record {
            delivery,
            order,
            failed: self.fl.unwrap_or(false),
            forgiven: self.g,
            since: self.c.map_or(head.accepted_at, Timestamp::from_micros),
            numbers: self.a.into_iter().collect(),
        })
    }
}

/// Deliveries on their way from another store.
pub(crate) fn restored(deliveries: &[PendingDelivery]) -> Vec<u8> {
    pack(&deliveries.iter().map(Packed::restored).collect::<Vec<_>>())
}

/// Reads a delivery's record.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Packed, QueueError> {
    rmp_serde::from_slice(bytes).map_err(damaged)
}

/// Reads an attempt. What layout version 1 wrote, and what came from another store, is JSON, and begins as no packed
/// attempt does.
pub(crate) fn attempt(packed: &[u8]) -> Result<Attempt, QueueError> {
    if packed.first() == Some(&b'{') {
        return serde_json::from_slice(packed).map_err(damaged);
    }
    let mut attempts = unpack_attempts(packed)?;
    match (attempts.pop(), attempts.is_empty()) {
        (Some(attempt), true) => Ok(attempt),
        _ => Err(damaged("an attempt is not one")),
    }
}

/// The deliveries of an event that was finished at its first settlement, with their attempts; `value` is what `evt` has.
pub(crate) fn first_settlement(
    shard: Shard,
    published: &Published,
    value: &[u8],
) -> Result<Vec<(Record, Vec<Attempt>)>, QueueError> {
    let (begin, body) = value.split_at_checked(HEAD_LEN).ok_or_else(|| damaged("an event is too short"))?;
    let at = std::str::from_utf8(&begin[2..18]).ok().and_then(|digits| digits.parse().ok());
    let at = Timestamp::from_micros(at.ok_or_else(|| damaged("an event has no time"))?);
    let FannedOut { e, o, d } = rmp_serde::from_slice(body).map_err(damaged)?;
    let head = EventHead {
        id: published.id.clone(),
        accepted_at: published.accepted_at,
        event: Some(e.into_owned()),
        object_type: Some(o.into_owned()),
    };
    let read = |item: Item<'_>| {
        let digest = u64::from_str_radix(&item.k, 16).map_err(damaged)?;
        let id = DeliveryId::from_parts(shard, published.sequence, digest);
        let order = match (item.ok, item.of) {
            (Some(key), Some(on_failure)) => Some(Order { key: key.into(), on_failure: word(&on_failure)? }),
            _ => None,
        };
        let endpoint = item.p.as_deref().and_then(keys::endpoint_id);
        let rule = RuleName::new(&item.r).map_err(damaged)?;
        let webhook = WebhookName::new(&item.w).map_err(damaged)?;
        let mut record = Record::fanned_out(id, &head, rule, webhook, endpoint, order);
        let mut log = Vec::new();
        for item in &item.a {
            let attempt = attempt(&item.j)?;
            if record.attempted(attempt.number, attempt.status, attempt.error.as_ref()) {
                log.push(attempt);
            }
        }
        log.sort_by_key(|attempt| attempt.number);
        record.settle(at, !log.is_empty(), &Fate::Delivered);
        Ok((record, log))
    };
    d.into_iter().map(read).collect()
}

/// How many bytes of an event in `evt` come before its MessagePack.
const HEAD_LEN: usize = 47;

/// An event as it stands in its stream.
pub(crate) struct Published {
    pub(crate) sequence: Sequence,
    pub(crate) id: EventId,
    pub(crate) accepted_at: Timestamp,
    pub(crate) payload: Bytes,
    /// How many bytes it had when it came by plain `XADD`; `None`: it came by publishing.
    pub(crate) plain_bytes: Option<usize>,
    /// Why it is no event, where it came by plain `XADD` and is none.
    pub(crate) unreadable: Option<String>,
}

impl Published {
    /// Reads 16 digits of time, a blank or, if it came by plain `XADD`, a tilde, the id, a blank, the payload.
    pub(crate) fn read(sequence: u64, entry: Vec<u8>) -> Result<Self, QueueError> {
        let wrong = || damaged("an event in the stream is not as it was written");
        let (begin, _) = entry.split_at_checked(17).ok_or_else(wrong)?;
        let at = std::str::from_utf8(&begin[..16]).ok().and_then(|digits| digits.parse().ok());
        let accepted_at = Timestamp::from_micros(at.ok_or_else(wrong)?);
        let is_plain = begin[16] == b'~';
        let (id, payload) = read_event(Bytes::from(entry).slice(17..)).ok_or_else(wrong)?;
        Ok(Published::new(sequence, id, accepted_at, payload, is_plain))
    }

    fn new(sequence: u64, id: EventId, accepted_at: Timestamp, mut payload: Bytes, is_plain: bool) -> Self {
        let plain_bytes = is_plain.then_some(payload.len());
        let mut unreadable = None;
        if is_plain {
            match complete(&payload, &id, accepted_at) {
                Ok(complete) => payload = complete,
                // An array is what an entry has that has no such field.
                Err(error) if payload.starts_with(b"[") => {
                    let remedy = "an entry has one event, as JSON in its field `event`";
                    unreadable = Some(format!("the event cannot be read: {error}; {remedy}"));
                }
                Err(error) => unreadable = Some(format!("the event cannot be read: {error}")),
            }
        }
        Published { sequence: Sequence(sequence), id, accepted_at, payload, plain_bytes, unreadable }
    }

    /// The event, leased, which has lost no lease. One that came by plain commands is looked at only now.
    pub(crate) fn leased(self, token: u64, leased_at: Timestamp, bytes_max: usize) -> LeasedEvent {
        let refused = self.plain_bytes.filter(|bytes| *bytes > bytes_max).map(|bytes| {
            format!(
                "the event has {bytes} bytes, and the limit is {bytes_max}; send less, or raise server.max_event_bytes"
            )
        });
        LeasedEvent {
            lease: Lease { subject: Subject::Event(self.sequence), token },
            id: self.id,
            sequence: self.sequence,
            payload: self.payload,
            accepted_at: self.accepted_at,
            leased_at,
            losses: 0,
            recorded: Vec::new(),
            refused: refused.or(self.unreadable),
        }
    }

    /// Reads an entry of the stream: its id is the number and the time, its value the id, a blank, the payload.
    fn of_entry(entry: Value) -> Option<Self> {
        let Value::Array(parts) = entry else { return None };
        let [Value::BulkString(number), Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else {
            return None;
        };
        let [Value::BulkString(field), Value::BulkString(value)] = <[Value; 2]>::try_from(fields).ok()?
        else {
            return None;
        };
        Published::at(&number, value, field == b"p")
    }

    /// Reads an event whose number and time stand beside it.
    fn at(place: &[u8], value: Vec<u8>, is_plain: bool) -> Option<Self> {
        let (sequence, at) = std::str::from_utf8(place).ok()?.split_once('-')?;
        let accepted_at = Timestamp::from_micros(at.parse().ok()?);
        let (id, payload) = read_event(Bytes::from(value))?;
        Some(Published::new(sequence.parse().ok()?, id, accepted_at, payload, is_plain))
    }
}

/// The most events of a batch, and the most bytes of one with more than one event: whoever leases some reads all of it.
const BATCH_EVENTS_MAX: usize = 32;
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Events as they are put in together.
pub(crate) struct Batch {
    /// How many.
    pub(crate) events: usize,
    /// `scripts/entries.lua` tells how it is written.
    pub(crate) text: Vec<u8>,
}

/// Puts events into batches, in their order.
pub(crate) fn batches(mut events: &[NewEvent]) -> Vec<Batch> {
    let len = |event: &NewEvent| event.id.as_str().len() + 1 + event.payload.len();
    let mut batches = Vec::new();
    while !events.is_empty() {
        let mut bytes = 0;
        let fitting = events.iter().take(BATCH_EVENTS_MAX).take_while(|event| {
            bytes += len(event);
            bytes <= BATCH_BYTES_MAX
        });
        let (together, rest) = events.split_at(fitting.count().max(1));
        let mut text = Vec::with_capacity(together.iter().map(|event| 8 + len(event)).sum());
        let mut end = 0;
        for event in together {
            end += len(event);
            write!(text, "{end:08}").expect(NO_FAILURE);
        }
        for event in together {
            write_event(&mut text, event);
        }
        batches.push(Batch { events: together.len(), text });
        events = rest;
    }
    batches
}

/// Writes an event as it is kept: the id, a blank, the payload.
pub(crate) fn write_event(out: &mut Vec<u8>, event: &NewEvent) {
    out.extend_from_slice(event.id.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&event.payload);
}

/// Reads what [`write_event`] wrote. The payload shares the memory.
fn read_event(mut value: Bytes) -> Option<(EventId, Bytes)> {
    let blank = value.iter().position(|byte| *byte == b' ')?;
    let id = EventId::new(std::str::from_utf8(&value[..blank]).ok()?).ok()?;
    value.advance(blank + 1);
    Some((id, value))
}

/// What `batches` says of a batch.
pub(crate) struct BatchName {
    /// The number of its first event, which its key has, too.
    pub(crate) first: u64,
    count: usize,
    accepted_at: Timestamp,
}

impl BatchName {
    pub(crate) fn read(name: &str) -> Option<Self> {
        let (first, rest) = name.split_once(':')?;
        let (count, at) = rest.split_once(':')?;
        let accepted_at = Timestamp::from_micros(at.parse().ok()?);
        Some(BatchName { first: first.parse().ok()?, count: count.parse().ok()?, accepted_at })
    }
}

/// Reads a batch. The events share the text.
pub(crate) fn read_batch(name: &BatchName, text: Vec<u8>) -> Result<Vec<Published>, QueueError> {
    let wrong = || damaged("a batch of events is not as it was written");
    let BatchName { first, count, accepted_at } = *name;
    let (text, begin) = (Bytes::from(text), 8 * count);
    let (mut events, mut from) = (Vec::with_capacity(count), begin);
    for (sequence, end) in (first..).zip(text.get(..begin).ok_or_else(wrong)?.chunks_exact(8)) {
        let end = std::str::from_utf8(end).ok().and_then(|digits| digits.parse::<usize>().ok());
        let to = begin + end.ok_or_else(wrong)?;
        // One that was removed has no id any more.
        if *text.get(from..to).and_then(<[u8]>::first).ok_or_else(wrong)? != b' ' {
            let (id, payload) = read_event(text.slice(from..to)).ok_or_else(wrong)?;
            events.push(Published::new(sequence, id, accepted_at, payload, false));
        }
        from = to;
    }
    Ok(events)
}

/// Reads entries of the stream of events.
pub(crate) fn entries(answer: Value) -> Result<Vec<Published>, QueueError> {
    let wrong = || damaged("an event in the stream is not as it was written");
    let Value::Array(entries) = answer else { return Err(wrong()) };
    entries.into_iter().map(|entry| Published::of_entry(entry).ok_or_else(wrong)).collect()
}

/// Reads what reading on in the stream of events gave: the entries beside the stream's name. None, if there was nothing
/// to read, or no group to read with.
pub(crate) fn read_entries(answer: Value) -> Result<Vec<Published>, QueueError> {
    let stream = match answer {
        Value::Array(mut streams) => match streams.pop() {
            Some(Value::Array(mut stream)) => stream.pop(),
            _ => None,
        },
        Value::Map(mut streams) => streams.pop().map(|(_, entries)| entries),
        _ => None,
    };
    stream.map_or(Ok(Vec::new()), entries)
}

/// Reads what was handed over: the token of a lease, and its events.
pub(crate) fn handed(entries: Value) -> Result<Vec<(u64, Vec<Published>)>, QueueError> {
    let read = |entry: Value| {
        let Value::Array(parts) = entry else { return None };
        let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else {
            return None;
        };
        let (token, _) = std::str::from_utf8(&id).ok()?.split_once('-')?;
        let mut events = Vec::with_capacity(fields.len() / 2);
        let mut fields = fields.into_iter();
        while let Some(place) = fields.next() {
            let (Value::BulkString(place), Some(Value::BulkString(value))) = (place, fields.next()) else {
                return None;
            };
            events.push(Published::at(&place, value, false)?);
        }
        Some((token.parse().ok()?, events))
    };
    let wrong = || damaged("an event is not handed over as it should be");
    let Value::Array(entries) = entries else { return Err(wrong()) };
    entries.into_iter().map(|entry| read(entry).ok_or_else(wrong)).collect()
}

/// Gives an event that was published by plain `XADD` what it lacks: an id, and a time. What is no event stays as it is,
/// and ends as a dead letter when it is fanned out.
fn complete(payload: &[u8], id: &EventId, accepted_at: Timestamp) -> Result<Bytes, EventError> {
    let Ok(text) = std::str::from_utf8(payload) else {
        // It says what is wrong with it.
        return Event::from_payload(payload).map(|event| event.to_payload().into());
    };
    let mut new_id = || id.clone();
    let event = Event::parse(text, &mut EventDefaults { now: accepted_at, new_id: &mut new_id })?;
    Ok(Event { id: id.clone(), ..event }.to_payload().into())
}

fn word<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, QueueError> {
    text.parse().map_err(damaged)
}

fn state_code(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Waiting => "w",
        DeliveryState::Running => "r",
        DeliveryState::Dead => "x",
        DeliveryState::Delivered => "d",
        DeliveryState::Cancelled => "c",
        DeliveryState::Superseded => "s",
    }
}

/// The state that a letter stands for.
pub(crate) fn state_of(code: &str) -> Result<DeliveryState, QueueError> {
    let found = DeliveryState::ALL.iter().copied().find(|state| state_code(*state) == code);
    found.ok_or_else(|| damaged(format!("{code:?} is no state of a delivery")))
}
