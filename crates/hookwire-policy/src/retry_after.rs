//! `Retry-After` (RFC 9110 section 10.2.3): how long the receiver asks to be left alone.
//!
//! Invariant: all three forms of a date that RFC 9110 section 5.6.7 names are read; anything else is no
//! answer, and the schedule goes on as if the header were not there.

use std::time::Duration;

use hookwire_model::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;

/// How long from `now` a `Retry-After` asks to wait: seconds, or an HTTP date. A date that has passed is a
/// wait of zero; `None` is what is neither.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are a very long wait, which the longest backoff caps.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    Some(http_date(value, now)?.saturating_since(now))
}

/// RFC 9110 section 5.6.7: the preferred form, and the two that senders no longer make but receivers must
/// read.
fn http_date(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some((weekday, rest)) = text.split_once(", ") {
        let (date, time) = rest.strip_suffix(" GMT")?.rsplit_once(' ')?;
        return if date.contains('-') {
            // RFC 850: `Sunday, 06-Nov-94 08:49:37 GMT`
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            known(&WEEKDAYS, weekday, usize::MAX)?;
            let two_digits = |year: i16| instant(year, month, day, time);
            let year = number(year, 2)? as i16;
            (parts.next().is_none()).then(|| century(year, now, two_digits))?
        } else {
            // IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`
            let mut parts = date.split(' ');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            known(&WEEKDAYS, weekday, 3)?;
            (parts.next().is_none()).then(|| instant(number(year, 4)? as i16, month, day, time))?
        };
    }
    // asctime: `Sun Nov  6 08:49:37 1994`, the day padded by a space.
    let (weekday, rest) = text.split_at_checked(3)?;
    known(&WEEKDAYS, weekday, 3)?;
    let rest = rest.strip_prefix(' ')?;
    let (month, rest) = rest.split_at_checked(3)?;
    let (day, rest) = rest.strip_prefix(' ')?.split_at_checked(2)?;
    let (time, year) = rest.strip_prefix(' ')?.split_once(' ')?;
    let day = day.strip_prefix(' ').map_or_else(|| day.to_owned(), |digit| format!("0{digit}"));
    instant(number(year, 4)? as i16, month, &day, time)
}

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The place of a name, cut to so many characters, in a list.
fn known(names: &[&str], text: &str, length: usize) -> Option<usize> {
    names.iter().position(|name| &name[..length.min(name.len())] == text)
}

fn number(text: &str, digits: usize) -> Option<u16> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn instant(year: i16, month: &str, day: &str, time: &str) -> Option<Timestamp> {
    let month = known(&MONTHS, month, 3)? + 1;
    let date = Date::new(year, month as i8, number(day, 2)? as i8).ok()?;
    let mut parts = time.split(':').map(|part| number(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || second > 60 {
        return None;
    }
    // The grammar allows a leap second, which the calendar here does not have.
    let time = Time::new(hour as i8, minute as i8, second.min(59) as i8, 0).ok()?;
    let instant = Offset::UTC.to_timestamp(date.to_datetime(time)).ok()?;
    Some(Timestamp::from_secs(instant.as_second()))
}

/// Two digits of a year name the latest such year that is not more than 50 years ahead (RFC 9110 section
/// 5.6.7).
fn century(year: i16, now: Timestamp, instant: impl Fn(i16) -> Option<Timestamp>) -> Option<Timestamp> {
    const FIFTY_YEARS: Duration = Duration::from_secs(50 * 31_556_952);
    let latest = now.saturating_add(FIFTY_YEARS);
    let years = (1900..10_000).step_by(100).map(|century| century + year);
    // Before 1970 the instant is held at 1970, which is in the past as well.
    years.filter_map(instant).take_while(|instant| *instant <= latest).last()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 9110's own example instant.
    const NOV_1994: i64 = 784_111_777;

    #[test]
    fn seconds_and_the_three_forms_of_a_date() {
        let wait = |value: &str| retry_after(value, Timestamp::from_secs(NOV_1994 - 120));
        for (value, seconds) in [
            ("120", 120),
            (" 120\t", 120),
            ("0", 0),
            ("00", 0),
            ("99999999999999999999999", u64::MAX),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 120),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 120),
            ("Sun Nov  6 08:49:37 1994", 120),
            ("Sun, 06 Nov 1994 08:49:60 GMT", 142),
            ("Wed Nov 16 08:49:37 1994", 120 + 10 * 86_400),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ] {
            assert_eq!(wait(value), Some(Duration::from_secs(seconds)), "{value}");
        }
    }

    #[test]
    fn two_digits_of_a_year_are_not_more_than_fifty_years_ahead() {
        let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let wait = |value: &str| retry_after(value, now).unwrap();
        assert_eq!(wait("Monday, 23-Nov-26 00:01:00 GMT"), Duration::from_secs(60));
        assert_eq!(wait("Sunday, 06-Nov-94 08:49:37 GMT"), Duration::ZERO, "1994, not 2094");
        assert!(wait("Friday, 01-Jan-70 00:00:00 GMT") > Duration::from_secs(43 * 365 * 86_400), "2070");
    }

    #[test]
    fn anything_else_is_no_answer() {
        for value in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "soon",
            "120 s",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:00 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-94-1 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "1994-11-06T08:49:37Z",
            "é",
        ] {
            assert_eq!(retry_after(value, Timestamp::from_secs(NOV_1994)), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn the_three_forms_agree(at in 0i64..4_102_444_800, before in 0i64..1_000_000) {
            let instant = jiff::Timestamp::from_second(at).unwrap();
            let forms = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
            let now = Timestamp::from_secs(at - before);
            let expected = Timestamp::from_secs(at).saturating_since(now);
            for form in forms {
                let text = instant.strftime(form).to_string();
                prop_assert_eq!(retry_after(&text, now), Some(expected), "{}", text);
            }
        }

        #[test]
        fn nothing_breaks_it(value: String, at in 0i64..4_102_444_800) {
            let _ = retry_after(&value, Timestamp::from_secs(at));
        }
    }
}
