//! Points in time: [`Timestamp`] for what hookwire does, [`EventTime`] for what a producer wrote.
//!
//! Invariants:
//! - The shapes that nearly every producer writes are read here, digit by digit; jiff reads the others, and what both
//!   would read they read alike.
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
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999_999);

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
        f.write_str(std::str::from_utf8(&self.digits()).expect("digits are ASCII"))
    }
}

impl Timestamp {
    /// The text that it is shown as.
    fn digits(self) -> [u8; 27] {
        // Neither negative nor behind the year 9999, which the constructor sees to.
        let (secs, micros) = (self.0 as u64 / 1_000_000, self.0 as u64 % 1_000_000);
        let (year, month, day) = date_of(secs / 86_400);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (at, number) in [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, secs / 3600 % 24),
            (14, secs / 60 % 60),
            (17, secs % 60),
            (20, micros / 10_000),
            (22, micros / 100 % 100),
            (24, micros % 100),
        ] {
            text[at] += (number / 10) as u8;
            text[at + 1] += (number % 10) as u8;
        }
        text
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        match usual_micros(text.as_bytes()) {
            Some(micros) => Ok(Timestamp::from_micros(micros)),
            None => parse_rfc3339(text).map(|instant| Timestamp::from_micros(instant.as_microsecond())),
        }
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
        let text = instant.digits();
        EventTime { text: std::str::from_utf8(&text).expect("digits are ASCII").into(), instant }
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

/// The microseconds since 1970 that a text names, if it has a usual shape: any that [`parse_rfc3339`] reads, but without
/// leap seconds and years that are long gone; and the last hours of the year 9999, where jiff ends before.
fn usual_micros(text: &[u8]) -> Option<i64> {
    let (month_of_year, rest) = text.split_first_chunk()?;
    let (minute_of_day, rest) = rest.split_first_chunk()?;
    let ([_, _, b'T' | b't' | b' ', _, _, _, _, _], [b':', s1, s2, rest @ ..]) = (minute_of_day, rest) else {
        return None;
    };
    let [y1, _, y2, _, _, month, _, _] = numbers(month_of_year, b"0000-00-")?;
    let [day, _, _, hour, _, _, minute, _] = numbers(minute_of_day, b"00.00:00")?;
    let (year, second) = (y1 * 100 + y2, number(*s1, *s2)?);
    let (micros, zone) = match rest {
        [b'.', digits @ ..] => fraction(digits)?,
        _ => (0, rest),
    };
    let (sign, hours_ahead, minutes_ahead) = match *zone {
        [b'Z' | b'z'] => (1, 0, 0),
        [b'+', h1, h2, b':', m1, m2] => (1, number(h1, h2)?, number(m1, m2)?),
        [b'-', h1, h2, b':', m1, m2] => (-1, number(h1, h2)?, number(m1, m2)?),
        _ => return None,
    };
    let fits = text.len() <= LEN_MAX
        && (1970..=9999).contains(&year)
        && (1..=days_of(year, month)).contains(&day)
        && hour.max(hours_ahead) < 24
        && minute.max(minutes_ahead).max(second) < 60;
    if !fits {
        return None;
    }
    let offset = sign * i64::from(hours_ahead * 60 + minutes_ahead);
    let minutes = i64::from((days_until(year, month, day) * 24 + hour) * 60 + minute) - offset;
    Some((minutes * 60 + i64::from(second)) * 1_000_000 + i64::from(micros))
}

/// The number that each two bytes spell that are zero in `shape`, where the first of them is; none if one of them is no
/// digit, or another byte is not as it is there. A dot stands for any byte.
fn numbers(text: &[u8; 8], shape: &[u8; 8]) -> Option<[u32; 8]> {
    // What digits are apart from '0' is their value.
    let apart = u64::from_le_bytes(*text) ^ u64::from_le_bytes(*shape);
    let apart = apart & u64::from_le_bytes(shape.map(|byte| if byte == b'.' { 0 } else { 0xFF }));
    // Adding this sets the highest bit of a byte that is too far apart. If it is so far that the sum carries into the
    // next byte, it has that bit itself.
    let room = u64::from_le_bytes(shape.map(|byte| if byte == b'0' { 0x7F - 9 } else { 0x7F }));
    if (apart | apart.wrapping_add(room)) & u64::from_le_bytes([0x80; 8]) != 0 {
        return None;
    }
    // Ten times each byte and the byte behind it, neither of which is more than 99.
    Some((apart * 10 + (apart >> 8)).to_le_bytes().map(u32::from))
}

/// The number that two digits spell.
fn number(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens * 10 + ones))
}

/// The microseconds of a fraction of at least one digit, and what stands behind it.
fn fraction(mut digits: &[u8]) -> Option<(u32, &[u8])> {
    let (mut micros, mut unit) = (0, 100_000);
    let len = digits.len();
    while let [digit @ b'0'..=b'9', rest @ ..] = digits {
        micros += u32::from(digit - b'0') * unit;
        unit /= 10;
        digits = rest;
    }
    (digits.len() < len).then_some((micros, digits))
}

/// How many days a month has; none if there is no such month.
fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(if year.is_multiple_of(100) { 400 } else { 4 }) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

/// Days from March 1st of the year 0, where the calendar begins that this reckons in, to 1970.
const DAYS_BEFORE_1970: u32 = 719_468;

/// Days from 1970 to a day. Years are taken to begin in March, so that the leap day is the last of its year and the
/// lengths of the months repeat every five, which have 153 days.
fn days_until(year: u32, month: u32, day: u32) -> u32 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_BEFORE_1970
}

/// The day so many days after 1970 as year, month and day: [`days_until`] the other way round.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + u64::from(DAYS_BEFORE_1970);
    // The calendar repeats every 400 years.
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    let month = (day * 5 + 2) / 153;
    let day = day - (month * 153 + 2) / 5 + 1;
    let year = cycle * 400 + year;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// The longest date and time that is read, in bytes.
const LEN_MAX: usize = 40;

/// RFC 3339 section 5.6 with its note that a space may stand for the `T`. jiff reads far more (week dates, bracketed
/// zones), so the shape is checked first: what we accept should mean the same to every receiver.
fn parse_rfc3339(text: &str) -> Result<jiff::Timestamp, TimeError> {
    let refused = || TimeError { text: text.chars().take(80).collect() };
    let bytes = text.as_bytes();
    if !(20..=LEN_MAX).contains(&bytes.len()) {
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
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            number(*h1, *h2).is_some_and(|hours| hours < 24)
                && number(*m1, *m2).is_some_and(|minutes| minutes < 60)
        }
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
    use proptest::prelude::*;

    use super::*;

    /// Where jiff ends: at the end of the calendar in the time zone that is furthest ahead.
    const JIFF_MAX: i64 = 253_402_207_200_000_000;

    /// Texts that are dates and times, or nearly.
    const NEARLY: &str = "(0000|1969|197[0-2]|20[0-9]{2}|2[0-9]{3}|999[0-8])-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,14})?([Zz]|[+-][0-2][0-9]:[0-6][0-9]|[+-]00:00|[a-z]?)";

    proptest! {
        #[test]
        fn usual_shapes_are_read_as_jiff_reads_them(text in NEARLY) {
            let reference = parse_rfc3339(&text).map(|instant| Timestamp::from_micros(instant.as_microsecond()));
            if let Some(micros) = usual_micros(text.as_bytes()) {
                prop_assert_eq!(Ok(Timestamp::from_micros(micros)), reference.clone());
            }
            prop_assert_eq!(text.parse::<Timestamp>(), reference);
        }

        #[test]
        fn what_is_shown_is_what_jiff_shows(micros in prop_oneof![0..=JIFF_MAX, 0..4_102_444_800_000_000_i64]) {
            let time = Timestamp(micros);
            let text = time.to_string();
            prop_assert_eq!(&text, &format!("{:.6}", jiff::Timestamp::from_microsecond(micros).unwrap()));
            let event_time = EventTime::from(time);
            prop_assert_eq!(event_time.as_str(), &text);
            prop_assert_eq!(text.parse::<Timestamp>().unwrap(), time);
        }
    }

    #[test]
    fn every_day_of_the_calendar_is_shown_and_read_as_jiff_does() {
        // It repeats every 400 years.
        let last = JIFF_MAX / 86_400_000_000;
        for day in (0..146_097).chain(last - 1000..last) {
            let time = Timestamp::from_secs(day * 86_400 + 86_399);
            let text = time.to_string();
            assert_eq!(text, format!("{:.6}", jiff::Timestamp::from_microsecond(time.0).unwrap()));
            assert_eq!(text.parse::<Timestamp>().unwrap(), time);
            assert!(usual_micros(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn the_calendar_ends_with_the_year_9999() {
        let last: Timestamp = "9999-12-31T23:59:59.999999Z".parse().unwrap();
        assert_eq!((last, &*last.to_string()), (Timestamp::MAX, "9999-12-31T23:59:59.999999Z"));
        let beyond: EventTime = "9999-12-31T23:59:59-01:00".parse().unwrap();
        assert_eq!((beyond.instant(), beyond.as_str()), (last, "9999-12-31T23:59:59-01:00"));
    }

    #[test]
    fn every_byte_that_is_out_of_place_is_told_as_jiff_tells_it() {
        for text in ["2026-11-23T16:40:00Z", "1999-12-31 23:59:59.123456789-11:30"] {
            assert!(usual_micros(text.as_bytes()).is_some());
            for place in 0..text.len() {
                for other in 0..=u8::MAX {
                    let mut text = text.to_owned();
                    text.replace_range(place..=place, char::from(other).encode_utf8(&mut [0; 4]));
                    let reference = parse_rfc3339(&text);
                    let reference = reference.map(|instant| Timestamp::from_micros(instant.as_microsecond()));
                    if !text.starts_with("9999-12-3") {
                        assert_eq!(text.parse::<Timestamp>(), reference, "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for day in
            ["2026-02-29", "2100-02-29", "2026-04-31", "2026-00-01", "2026-13-01", "2026-01-00", "2026-12-32"]
        {
            assert!(format!("{day}T00:00:00Z").parse::<Timestamp>().is_err(), "{day}");
        }
        for day in ["2024-02-29", "2000-02-29", "2026-04-30", "2026-12-31"] {
            assert!(format!("{day}T00:00:00Z").parse::<Timestamp>().is_ok(), "{day}");
        }
    }

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
            "2026-01-02T03:04:05+24:00",
            "2026-01-02T03:04:05+23:60",
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
