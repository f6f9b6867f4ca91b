//! Durations and sizes, as people write them: `10s`, `1h30m`, `1GiB`.
//!
//! Invariant: a number without a unit is refused, since its reader would have to guess.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a duration: whole numbers, each with `ms`, `s`, `m`, `h` or `d`, one after the other.
///
/// # Errors
/// What is wrong, as the rest of a sentence that begins with the text.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "is no duration; write it with units, such as \"500ms\", \"10s\", \"1h30m\" or \"7d\"";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(FORM.into());
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let letters =
            rest[digits..].len() - rest[digits..].trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let factor = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or(FORM)?.1;
        let number: u64 =
            if digits == 0 { return Err(FORM.into()) } else { number.parse().map_err(|_| "is too long")? };
        let part = number.checked_mul(factor).ok_or("is too long")?;
        total = total.checked_add(part).ok_or("is too long")?;
        rest = rest[digits + letters..].trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// A duration as people write it: the largest units first, `1m30s`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in DURATION_UNITS.iter().rev() {
        let count = rest / u128::from(*millis);
        rest %= u128::from(*millis);
        if count > 0 {
            text += &format!("{count}{unit}");
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Reads a size: a whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB`, or `kB`, `MB`, `GB`, `TB`.
///
/// # Errors
/// What is wrong, as the rest of a sentence that begins with the text.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const FORM: &str = "is no size; write it with a unit, such as \"64KiB\", \"1MiB\" or \"8GiB\"";
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(FORM)?.1;
    let number: u64 =
        if digits == 0 { return Err(FORM.into()) } else { number.parse().map_err(|_| "is too large")? };
    Ok(number.checked_mul(factor).ok_or("is too large")?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("7d", 604_800_000),
            ("90m", 5_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", " ", "10", "s", "10x", "1.5s", "-1s", "10s5", "1H", "ten seconds", "10µs", "10 s"] {
            assert!(duration(text).unwrap_err().contains("is no duration"), "{text}");
        }
        for text in ["99999999999999999999s", "999999999999999999d", "18446744073709551615ms1ms"] {
            assert_eq!(duration(text).unwrap_err(), "is too long", "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0B", 0), ("1KiB", 1_024), ("1 MiB", 1 << 20), ("8GiB", 8 << 30), ("2kB", 2_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "1", "GiB", "1G", "1gib", "1.5GiB", "-1B", "1KB"] {
            assert!(size(text).unwrap_err().contains("is no size"), "{text}");
        }
        for text in ["99999999999999999999B", "99999999999TiB"] {
            assert_eq!(size(text).unwrap_err(), "is too large", "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_is_the_sum_of_its_parts(parts in proptest::collection::vec((0u64..10_000, 0usize..5), 1..6)) {
            let text: Vec<String> = parts.iter().map(|(n, unit)| format!("{n}{}", DURATION_UNITS[*unit].0)).collect();
            let millis: u64 = parts.iter().map(|(n, unit)| n * DURATION_UNITS[*unit].1).sum();
            prop_assert_eq!(duration(&text.concat()), Ok(Duration::from_millis(millis)));
            prop_assert_eq!(duration(&text.join(" ")), Ok(Duration::from_millis(millis)));
        }

        #[test]
        fn a_duration_that_is_printed_reads_back(millis in 0u64..u64::MAX) {
            let exact = Duration::from_millis(millis);
            prop_assert_eq!(duration(&duration_text(exact)), Ok(exact));
        }

        #[test]
        fn nothing_breaks_them(text: String) {
            let _ = (duration(&text), size(&text));
        }
    }
}
