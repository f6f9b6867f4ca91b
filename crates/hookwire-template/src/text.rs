//! Small things about text that messages need.

/// The largest character boundary that is not past `at`.
pub(crate) fn floor_boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A text as it may stand in a message: on one line, without control characters, cut after 80 characters.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Of these names the one that was probably meant.
pub(crate) fn closest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Long names and large objects would cost more than the suggestion is worth.
    const LEN_MAX: usize = 40;
    const NAMES_MAX: usize = 200;
    if name.len() > LEN_MAX {
        return None;
    }
    names
        .take(NAMES_MAX)
        .filter(|have| have.len() <= LEN_MAX)
        .map(|have| (strsim::damerau_levenshtein(name, have), have))
        .filter(|(distance, have)| *distance <= 2 && *distance * 3 <= have.chars().count().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, have)| have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_is_close() {
        let names = ["username", "event", "data"];
        assert_eq!(closest("usernam", names.into_iter()), Some("username"));
        assert_eq!(closest("dta", names.into_iter()), Some("data"));
        assert_eq!(closest("site", names.into_iter()), None);
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt("a\nb"), "a\\nb");
        assert_eq!(excerpt(&"ä".repeat(81)).chars().count(), 81);
    }
}
