//! Names and numbers that identify things; never bare strings.
//!
//! Invariants:
//! - A [`DeliveryId`] is a function of shard, sequence number, event id, rule and webhook: fanning an event out twice
//!   gives the same ids.
//! - A delivery id says where it lives: its shard and sequence number can be read off it, so that a store finds a
//!   delivery, and appends its record, without an index over random keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The idempotency key of an event: 1 to 128 visible ASCII characters, no `.`.
///
/// The dot is left out because Standard Webhooks signs `id.timestamp.body`: an id with a dot could be shifted into the
/// timestamp.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Longest id, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Checks and takes an id.
    ///
    /// # Errors
    /// [`IdError`] if it is empty, longer than 128 bytes, or holds anything but visible ASCII without `.`.
    pub fn new(id: &str) -> Result<Self, IdError> {
        let fits =
            (1..=Self::LEN_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic() && b != b'.');
        if fits { Ok(EventId(id.into())) } else { Err(IdError::Event(excerpt(id))) }
    }

    /// The id of an event that brings none, but tells when, who and in which request: a hash of its bytes, so that the
    /// same bytes sent twice are one event. `evt_` and 32 hex digits.
    pub fn from_content(bytes: &[u8]) -> Self {
        EventId(format!("evt_{}", hex(&Sha256::digest(bytes)[..16])).into())
    }

    /// The id of a CloudEvent, which is unique only together with its source (CloudEvents 1.0, section "id").
    /// `ce_` and 32 hex digits of SHA-256(source, NUL, id).
    pub fn from_cloud_event(source: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(source.as_bytes());
        hash.update([0]);
        hash.update(id.as_bytes());
        EventId(format!("ce_{}", hex(&hash.finalize()[..16])).into())
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        EventId::new(&text).map_err(serde::de::Error::custom)
    }
}

/// An independent part of a store. Memory and embedded stores have one, number 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard(pub u16);

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number that a store gives an event within its shard: grows in the order of acceptance, with gaps. At most 48
/// bits, which is a million events a second for nine years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The largest number that fits a delivery id.
    pub const MAX: Sequence = Sequence((1 << 48) - 1);
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a delivery, the same over all its attempts; sent as `webhook-id`.
///
/// Written as `dlv_` and 26 digits of Crockford's base 32 in lower case: 16 bits of shard, 48 of sequence number, 64 of
/// a hash over event id, rule and webhook. Ids of one shard sort in the order of acceptance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(u128);

const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl DeliveryId {
    /// The id of the delivery of an event to a webhook under a rule.
    pub fn derive(
        shard: Shard,
        sequence: Sequence,
        event: &EventId,
        rule: &RuleName,
        webhook: &WebhookName,
    ) -> Self {
        Self::hashed(shard, sequence, &[event.as_str(), rule.as_str(), webhook.as_str()])
    }

    /// The id of the dead letter that stands for an event which never reached fan-out: one that cannot be read, or
    /// takes its worker down.
    pub fn of_event(shard: Shard, sequence: Sequence, event: &EventId) -> Self {
        Self::hashed(shard, sequence, &[event.as_str()])
    }

    fn hashed(shard: Shard, sequence: Sequence, parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let digest = u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes"));
        Self::from_parts(shard, sequence, digest)
    }

    /// Puts an id together again from what [`shard`](Self::shard), [`sequence`](Self::sequence) and
    /// [`digest`](Self::digest) told.
    pub fn from_parts(shard: Shard, sequence: Sequence, digest: u64) -> Self {
        let sequence = sequence.0 & Sequence::MAX.0;
        DeliveryId((u128::from(shard.0) << 112) | (u128::from(sequence) << 64) | u128::from(digest))
    }

    /// The shard the delivery lives in.
    pub fn shard(self) -> Shard {
        Shard((self.0 >> 112) as u16)
    }

    /// The sequence number of the event within that shard.
    pub fn sequence(self) -> Sequence {
        Sequence((self.0 >> 64) as u64 & Sequence::MAX.0)
    }

    /// The hash over event id, rule and webhook.
    pub fn digest(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"dlv_00000000000000000000000000";
        for (place, digit) in text[4..].iter_mut().enumerate() {
            *digit = BASE32[(self.0 >> (125 - 5 * place)) as usize & 31];
        }
        f.pad(std::str::from_utf8(&text).expect("base 32 is ASCII"))
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError::Delivery(excerpt(text));
        let digits = text.strip_prefix("dlv_").filter(|digits| digits.len() == 26).ok_or_else(refused)?;
        let mut value = 0u128;
        for (place, byte) in digits.bytes().enumerate() {
            let digit = BASE32.iter().position(|&b| b == byte).ok_or_else(refused)? as u128;
            // 26 digits hold 130 bits: the first digit has only three of its five.
            if place == 0 && digit > 7 {
                return Err(refused());
            }
            value = value << 5 | digit;
        }
        Ok(DeliveryId(value))
    }
}

impl Serialize for DeliveryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeliveryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Identifies an endpoint: `ep_` and 16 hex digits of a hash over the webhook's name and the authority its URL rendered
/// to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

impl EndpointId {
    /// The endpoint of a webhook at an authority.
    pub fn derive(webhook: &WebhookName, authority: &crate::Authority) -> Self {
        let mut hash = Sha256::new();
        hash.update(webhook.as_str().as_bytes());
        hash.update([0]);
        hash.update(authority.to_string().as_bytes());
        EndpointId(u64::from_be_bytes(hash.finalize()[..8].try_into().expect("SHA-256 has 32 bytes")))
    }

    /// What stands for all endpoints of a webhook, where something is said about the webhook as a whole.
    pub fn of_webhook(webhook: &WebhookName) -> Self {
        let mut hash = Sha256::new();
        hash.update(webhook.as_str().as_bytes());
        // No authority looks like this.
        hash.update(b"\0*");
        EndpointId(u64::from_be_bytes(hash.finalize()[..8].try_into().expect("SHA-256 has 32 bytes")))
    }

    /// From the number that [`as_u64`](Self::as_u64) told.
    pub fn from_u64(value: u64) -> Self {
        EndpointId(value)
    }

    /// The hash itself.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("ep_{:016x}", self.0))
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EndpointId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("ep_")
            .filter(|digits| {
                digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            })
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(EndpointId)
            .ok_or_else(|| IdError::Endpoint(excerpt(text)))
    }
}

impl Serialize for EndpointId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EndpointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Names that people give; the two differ in type so that they cannot be mixed up.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// [`IdError`] if it is empty, longer than 200 bytes, has white space at an end, or holds a control character.
            pub fn new(name: &str) -> Result<Self, IdError> {
                let fits = (1..=200).contains(&name.len())
                    && name.trim() == name
                    && !name.chars().any(char::is_control);
                if fits { Ok($name(name.into())) } else { Err(IdError::Name { what: $what, text: excerpt(name) }) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                $name::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of an event rule.
    RuleName,
    "event rule"
);
name!(
    /// The name of a webhook.
    WebhookName,
    "webhook"
);

/// A text that is no id or name of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each variant means")]
pub enum IdError {
    #[error("{0:?} is no event id: it needs 1 to 128 visible ASCII characters without \".\"")]
    Event(String),
    #[error(
        "{0:?} is no delivery id: it needs \"dlv_\" and 26 characters of 0-9 and a-z without i, l, o and u"
    )]
    Delivery(String),
    #[error("{0:?} is no endpoint id: it needs \"ep_\" and 16 hex digits")]
    Endpoint(String),
    #[error(
        "{text:?} cannot be the name of this {what}: it needs 1 to 200 bytes, no white space at its ends, no control characters"
    )]
    Name { what: &'static str, text: String },
}

/// Enough of a bad value to recognise it, and no more: it may be megabytes long.
fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> (EventId, RuleName, WebhookName) {
        (EventId::new("e-1").unwrap(), RuleName::new("rule").unwrap(), WebhookName::new("slack").unwrap())
    }

    #[test]
    fn a_delivery_id_is_a_function_of_its_parts() {
        let (event, rule, webhook) = names();
        let id = DeliveryId::derive(Shard(3), Sequence(77), &event, &rule, &webhook);
        assert_eq!(id, DeliveryId::derive(Shard(3), Sequence(77), &event, &rule, &webhook));
        assert_eq!((id.shard(), id.sequence()), (Shard(3), Sequence(77)));
        let other = RuleName::new("rulesl").unwrap();
        let shifted = WebhookName::new("ack").unwrap();
        assert_ne!(id, DeliveryId::derive(Shard(3), Sequence(77), &event, &other, &shifted));
        assert_eq!(id.to_string(), "dlv_000c000000016rap1d35yrqm9j");
    }

    proptest! {
        #[test]
        fn a_delivery_id_reads_back_as_it_was_written(shard: u16, sequence in 0..=Sequence::MAX.0, digest: u64) {
            let id = DeliveryId::from_parts(Shard(shard), Sequence(sequence), digest);
            prop_assert_eq!(id.to_string().parse::<DeliveryId>().unwrap(), id);
            prop_assert_eq!((id.shard().0, id.sequence().0, id.digest()), (shard, sequence, digest));
        }

        #[test]
        fn delivery_ids_sort_as_their_texts(a: (u16, u32, u64), b: (u16, u32, u64)) {
            let id = |(shard, sequence, digest): (u16, u32, u64)| DeliveryId::from_parts(Shard(shard), Sequence(u64::from(sequence)), digest);
            let (a, b) = (id(a), id(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn an_endpoint_id_reads_back_as_it_was_written(value: u64) {
            let id = EndpointId::from_u64(value);
            prop_assert_eq!(id.to_string().parse::<EndpointId>().unwrap(), id);
        }
    }

    #[test]
    fn bad_ids_are_refused() {
        for text in ["", "a.b", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(EventId::new(text).is_err(), "{text:?}");
        }
        for text in [
            "",
            "dlv_",
            "dlv_80000000000000000000000000",
            "dlv_0000000000000000000000000u",
            "evt_00000000000000000000000000",
        ] {
            assert!(text.parse::<DeliveryId>().is_err(), "{text:?}");
        }
        assert!("ep_00000000000000A0".parse::<EndpointId>().is_err());
        assert!(RuleName::new(" a").is_err());
    }

    #[test]
    fn an_id_from_content_differs_with_the_content() {
        assert_ne!(EventId::from_content(b"a"), EventId::from_content(b"b"));
        assert_eq!(EventId::from_cloud_event("/s", "1").as_str().len(), 35);
    }
}
