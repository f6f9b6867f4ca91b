//! Points in time: [`Timestamp`] for what hookwire does, [`EventTime`] for what a producer wrote.
//!
//! Absences: there is no `now()`; whoever needs the time is given it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, UTC, to the microsecond. Shown as RFC 3339 with six digits and `Z`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The start of 1970.
    pub const UNIX_EPOCH: Timestamp = Timestamp(0);
    /// The last instant that RFC 3339 can write: used for "until told otherwise".
    pub const MAX: Timestamp = Timestamp(253_402_207_200_000_000);

    /// From microseconds since 1970, held within what RFC 3339 can write.
    pub fn from_micros(micros: i64) -> Self {
        Timestamp(micros.clamp(0, Timestamp::MAX.0))
    }

    /// From milliseconds since 1970, held within what RFC 3339 can write.
    pub fn from_millis(millis: i64) -> Self {
        Timestamp::from_micros(millis.saturating_mul(1000))
    }

    /// From whole seconds since 1970, held within what RFC 3339 can write.
    pub fn from_secs(secs: i64) -> Self {
        Timestamp::from_micros(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since 1970.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970, rounded down.
    pub fn as_millis(self) -> i64 {
        self.0 / 1000
    }

    /// Seconds since 1970, rounded down.
    pub fn as_secs(self) -> i64 {
        self.0 / 1_000_000
    }

    /// The instant `by` later; the last one there is, where that would overflow.
    pub fn saturating_add(self, by: Duration) -> Self {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_add(micros))
    }

    /// The instant `by` earlier; 1970 where that would be before it.
    pub fn saturating_sub(self, by: Duration) -> Self {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_sub(micros))
    }

    /// How long after `earlier` this is; zero if it is before it.
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_microsecond(self.0)
            .expect("the constructor holds the value within jiff's range");
        write!(f, "{instant:.6}")
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse_rfc3339(text).map(|instant| Timestamp::from_micros(instant.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// When an event happened, as its producer wrote it: RFC 3339, a space for the `T` allowed.
///
/// Templates see the text, unchanged; hookwire itself uses the instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    text: Box<str>,
    instant: Timestamp,
}

impl EventTime {
    /// The text, as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The instant it names.
    pub fn instant(&self) -> Timestamp {
        self.instant
    }
}

impl FromStr for EventTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Ok(EventTime { instant: text.parse()?, text: text.into() })
    }
}

impl From<Timestamp> for EventTime {
    fn from(instant: Timestamp) -> Self {
        EventTime { text: instant.to_string().into(), instant }
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text that is no RFC 3339 date and time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no RFC 3339 date and time, such as \"2026-11-23T16:40:00Z\" or \"2026-11-23 16:40:00.5+01:00\""
)]
pub struct TimeError {
    text: Box<str>,
}

/// RFC 3339 section 5.6 with its note that a space may stand for the `T`. jiff reads far more (week dates, bracketed
/// zones), so the shape is checked first: what we accept should mean the same to every receiver.
fn parse_rfc3339(text: &str) -> Result<jiff::Timestamp, TimeError> {
    let refused = || TimeError { text: text.chars().take(80).collect() };
    let bytes = text.as_bytes();
    if !(20..=40).contains(&bytes.len()) {
        return Err(refused());
    }
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = shape.iter().zip(bytes).all(|(want, have)| match want {
        b'd' => have.is_ascii_digit(),
        b'T' => matches!(have, b'T' | b't' | b' '),
        other => have == other,
    });
    let mut zone = &bytes[shape.len()..];
    if let [b'.', fraction @ ..] = zone {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return Err(refused());
        }
        zone = &fraction[digits..];
    }
    let zone_fits = match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    };
    if !fits || !zone_fits {
        return Err(refused());
    }
    // jiff takes at most nine digits of a fraction; what lies beyond a nanosecond makes no difference here.
    let fraction_end = bytes.len() - zone.len();
    let trimmed = format!("{}{}", &text[..fraction_end.min(29)], &text[fraction_end..]);
    trimmed.parse().map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rfc3339_and_the_space_form() {
        let reference: Timestamp = "2026-11-23T16:40:00.500000Z".parse().unwrap();
        for text in [
            "2026-11-23T16:40:00.5Z",
            "2026-11-23 16:40:00.5Z",
            "2026-11-23T17:40:00.500+01:00",
            "2026-11-23 16:40:00.500000000000+00:00",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap(), reference, "{text}");
            assert_eq!(text.parse::<EventTime>().unwrap().as_str(), text);
        }
        assert_eq!(reference.to_string(), "2026-11-23T16:40:00.500000Z");
    }

    #[test]
    fn refuses_what_is_no_date_and_time() {
        for text in [
            "",
            "now",
            "2026-11-23",
            "2026-11-23T16:40:00",
            "2026-13-01T00:00:00Z",
            "2026-11-23T16:40Z",
            "20261123T164000Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_instant_can_be_written_and_read() {
        assert_eq!(Timestamp::MAX.to_string().parse::<Timestamp>().unwrap(), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::UNIX_EPOCH.saturating_sub(Duration::from_secs(1)), Timestamp::UNIX_EPOCH);
    }
}
