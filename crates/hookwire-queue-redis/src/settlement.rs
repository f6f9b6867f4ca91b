//! A settlement, as the script takes it: MessagePack that is written member by member, because every event is settled.
//!
//! Invariants:
//! - What is written here, [`pack`](crate::pack) reads, and the scripts do (`scripts/record.lua` tells the members).
//! - Nothing in between: what a settlement says goes straight into the bytes that are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use hookwire_model::{AttemptError, EndpointId, Sequence};
use hookwire_queue::{
    EventFate, Fate, Lease, NewDelivery, PackedAttempt, Settled, SettledDelivery, Settlement, Subject,
};
use rmp::encode;

use crate::keys;
use crate::pack::{NO_FAILURE, error_json, micros};

/// Something to settle, as the script takes it.
pub(crate) struct SettleItem {
    pub(crate) kind: &'static str,
    pub(crate) subject: String,
    pub(crate) token: u64,
    pub(crate) body: Vec<u8>,
}

/// Events of a run, all of whose deliveries were delivered.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) token: u64,
    pub(crate) name: String,
    /// What is said of each, one after the other, and then where that stands (`scripts/record.lua` has the format).
    pub(crate) content: Vec<u8>,
    /// Which they are, as ranges: first number, a colon, how many, a blank.
    pub(crate) ranges: String,
    /// How many deliveries they have.
    pub(crate) deliveries: usize,
    /// How many bytes are said of them.
    pub(crate) said: usize,
    /// The events, and where in the content what is said of each stands, in digits.
    index: Vec<u8>,
    events: Vec<Sequence>,
}

#[derive(Default)]
pub(crate) struct ToSettle {
    pub(crate) blocks: Vec<Block>,
    pub(crate) items: Vec<SettleItem>,
}

/// Says a settlement. What can only be lost is noted in `settled`.
pub(crate) fn to_settle(settlement: &Settlement, settled: &mut Settled) -> ToSettle {
    let mut all = ToSettle::default();
    // Blocks are settled first, so what follows another settlement of the same event in this one stays out of them.
    let mut apart = BTreeSet::new();
    for event in &settlement.events {
        let Lease { subject: Subject::Event(sequence), token } = event.lease else {
            settled.lost.push(event.lease.subject);
            continue;
        };
        let mut body = Vec::new();
        let kind = match &event.fate {
            EventFate::FannedOut { event, object_type, deliveries } => {
                let is_done = deliveries.iter().all(|new| new.fate == Fate::Delivered);
                let say = |content: &mut Vec<u8>| write_fanned_out(content, event, object_type, deliveries);
                if is_done
                    && !apart.contains(&sequence)
                    && all.block(token, settlement.events.len()).add(sequence, deliveries.len(), say)
                {
                    continue;
                }
                write_fanned_out(&mut body, event, object_type, deliveries);
                if is_done { "F" } else { "E" }
            }
            EventFate::Dead { id, reason, error } => {
                let mut map = Map::begin(&mut body);
                map.hex("k", id.digest());
                map.text("dr", reason.as_str());
                map.error("le", error.as_ref());
                map.end();
                "X"
            }
            EventFate::Released => "R",
        };
        apart.insert(sequence);
        all.items.push(SettleItem { kind, subject: sequence.to_string(), token, body });
    }
    for block in &mut all.blocks {
        block.end();
    }
    for delivery in &settlement.deliveries {
        let Lease { subject: Subject::Delivery(id), token } = delivery.lease else {
            settled.lost.push(delivery.lease.subject);
            continue;
        };
        let mut body = Vec::new();
        write_settled(&mut body, delivery);
        all.items.push(SettleItem { kind: "D", subject: keys::delivery(id), token, body });
    }
    all
}

/// What was lost, in the order of the settlement: the script looks at blocks before everything else.
pub(crate) fn in_order(settlement: &Settlement, lost: &[Subject]) -> Vec<Subject> {
    let mut left = BTreeMap::<Subject, usize>::new();
    for subject in lost {
        *left.entry(*subject).or_default() += 1;
    }
    let events = settlement.events.iter().map(|event| event.lease.subject);
    let subjects = events.chain(settlement.deliveries.iter().map(|delivery| delivery.lease.subject));
    let mut is_left = |subject: &Subject| match left.get_mut(subject) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    subjects.filter(|subject| is_left(subject)).collect()
}

/// What is said of an event with one delivery takes about so much.
const USUAL_BYTES: usize = 900;

impl ToSettle {
    /// The block of a run, of which there may be so many events.
    fn block(&mut self, token: u64, events: usize) -> &mut Block {
        let place = self.blocks.iter().rposition(|block| block.token == token).unwrap_or_else(|| {
            let content = Vec::with_capacity(events * USUAL_BYTES);
            self.blocks.push(Block { token, content, ..Block::default() });
            self.blocks.len() - 1
        });
        &mut self.blocks[place]
    }
}

impl Block {
    /// Adds an event with so many deliveries, of which `say` writes what there is to say. Not, and `false`, if that is so
    /// much that its place and length have more digits than the scripts read, or the event is there already.
    fn add(&mut self, sequence: Sequence, deliveries: usize, say: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.events.contains(&sequence) {
            return false;
        }
        let begin = self.content.len();
        say(&mut self.content);
        let length = self.content.len() - begin;
        if begin > 99_999_999 || length > 9_999_999 {
            self.content.truncate(begin);
            return false;
        }
        self.index.extend_from_slice(itoa::Buffer::new().format(sequence.0).as_bytes());
        self.index.push(b':');
        self.index.extend_from_slice(&digits::<6>(deliveries));
        self.index.extend_from_slice(&digits::<8>(begin));
        self.index.extend_from_slice(&digits::<7>(length));
        self.index.push(b' ');
        self.events.push(sequence);
        self.deliveries += deliveries;
        self.said += length;
        true
    }

    /// Ends it: nothing is added any more.
    fn end(&mut self) {
        self.events.sort_unstable();
        for range in self.events.chunk_by(|a, b| a.0 + 1 == b.0) {
            write!(self.ranges, "{}:{} ", range[0], range.len()).expect(NO_FAILURE);
        }
        self.content.extend_from_slice(&self.index);
        self.content.extend_from_slice(&digits::<8>(self.index.len()));
        // A settlement that is repeated names its blocks as before; another one names them otherwise.
        let mut hash = DefaultHasher::new();
        self.index.hash(&mut hash);
        self.name = format!("{:x}.{:016x}", self.token, hash.finish());
    }
}

/// A number in so many digits.
fn digits<const N: usize>(mut number: usize) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// What became of an event that was fanned out.
fn write_fanned_out(out: &mut Vec<u8>, event: &str, object_type: &str, deliveries: &[NewDelivery]) {
    let mut map = Map::begin(out);
    map.text("e", event);
    map.text("o", object_type);
    map.list("d", deliveries, write_new);
    map.end();
}

/// A delivery that fan-out made.
fn write_new(out: &mut Vec<u8>, new: &NewDelivery) {
    let mut map = Map::begin(out);
    map.hex("k", new.id.digest());
    map.text("r", new.rule.as_str());
    map.text("w", new.webhook.as_str());
    if let Some(order) = &new.order {
        map.text("ok", &order.key);
        map.text("of", order.on_failure.as_str());
    }
    map.fate(new.endpoint, &new.fate, &new.attempts);
    map.end();
}

/// A delivery that was stored before.
fn write_settled(out: &mut Vec<u8>, settled: &SettledDelivery) {
    let mut map = Map::begin(out);
    map.fate(settled.endpoint, &settled.fate, &settled.attempts);
    map.end();
}

/// An attempt: what the scripts need to know of it, and the attempt itself, which they only pass on. That is a string to
/// them, whatever its bytes: their MessagePack knows no other kind.
fn write_attempt_item(out: &mut Vec<u8>, attempt: &PackedAttempt) {
    let mut map = Map::begin(out);
    map.uint("n", u64::from(attempt.number));
    if let Some(status) = attempt.status {
        map.uint("st", u64::from(status));
    }
    map.error("er", attempt.error.as_ref());
    map.octets("j", attempt.bytes());
    map.end();
}

/// A map of at most 15 members that is written member by member.
struct Map<'a> {
    out: &'a mut Vec<u8>,
    /// Where its marker stands, which tells how many members there are.
    begin: usize,
    len: u8,
}

impl<'a> Map<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        let begin = out.len();
        out.push(0);
        Map { out, begin, len: 0 }
    }

    fn end(self) {
        self.out[self.begin] = rmp::Marker::FixMap(self.len).to_u8();
    }

    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.len += 1;
        encode::write_str(self.out, name).expect(NO_FAILURE);
        self.out
    }

    fn text(&mut self, name: &str, text: &str) {
        encode::write_str(self.name(name), text).expect(NO_FAILURE);
    }

    fn uint(&mut self, name: &str, value: u64) {
        encode::write_uint(self.name(name), value).expect(NO_FAILURE);
    }

    /// Sixteen digits.
    fn hex(&mut self, name: &str, value: u64) {
        let mut digits = [0; 16];
        for (place, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(value >> (60 - 4 * place)) as usize & 15];
        }
        let out = self.name(name);
        encode::write_str_len(out, 16).expect(NO_FAILURE);
        out.extend_from_slice(&digits);
    }

    fn error(&mut self, name: &str, error: Option<&AttemptError>) {
        if let Some(error) = error {
            self.text(name, &error_json(error));
        }
    }

    fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        let out = self.name(name);
        encode::write_array_len(out, items.len() as u32).expect(NO_FAILURE);
        for item in items {
            write(out, item);
        }
    }

    /// A string, whatever its bytes.
    fn octets(&mut self, name: &str, octets: &[u8]) {
        let out = self.name(name);
        encode::write_str_len(out, octets.len() as u32).expect(NO_FAILURE);
        out.extend_from_slice(octets);
    }

    fn fate(&mut self, endpoint: Option<EndpointId>, fate: &Fate, attempts: &[PackedAttempt]) {
        if let Some(endpoint) = endpoint {
            self.hex("p", endpoint.as_u64());
        }
        match fate {
            Fate::Delivered => self.text("t", "d"),
            Fate::Dead { reason, error } => {
                self.text("t", "x");
                self.text("dr", reason.as_str());
                self.error("le", error.as_ref());
            }
            Fate::Waiting { due_in, reason } => {
                self.text("t", "w");
                self.uint("u", micros(*due_in));
                self.text("wr", reason.as_str());
            }
            Fate::Running { lease } => {
                self.text("t", "r");
                self.uint("l", micros(*lease));
            }
        }
        if !attempts.is_empty() {
            self.list("a", attempts, write_attempt_item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_tells_where_each_event_stands() {
        let mut all = ToSettle::default();
        for (sequence, said) in [(7, "abc"), (123_456, ""), (8, "defgh")] {
            let block = all.block(1, 3);
            assert!(block.add(Sequence(sequence), 2, |content| content.extend_from_slice(said.as_bytes())));
        }
        assert!(
            !all.block(1, 3).add(Sequence(9), 2, |content| content.resize(content.len() + 10_000_000, 0))
        );
        assert!(!all.block(1, 3).add(Sequence(8), 2, |_| ()), "it is there already");
        let block = &mut all.blocks[0];
        block.end();
        assert_eq!(
            std::str::from_utf8(&block.content).unwrap(),
            "abcdefgh7:000002000000000000003 123456:000002000000030000000 8:000002000000030000005 00000077"
        );
        assert_eq!((&block.ranges[..], block.deliveries, block.said), ("7:2 123456:1 ", 6, 8));
        assert_eq!(&digits::<7>(9_999_999), b"9999999");
    }
}
