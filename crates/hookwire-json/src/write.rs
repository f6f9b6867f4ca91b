//! Writes strings as JSON.

use crate::scan::plain_len;

/// Appends a string as a JSON string literal.
pub fn push_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    push_string_content(out, text);
    out.push('"');
}

/// Appends the content of a JSON string literal, without its quotes: only what must be escaped is.
pub fn push_string_content(out: &mut String, text: &str) {
    let mut run = 0;
    loop {
        let at = run + plain_len(text.as_bytes(), run);
        out.push_str(&text[run..at]);
        match text.as_bytes().get(at) {
            None => return,
            Some(b'"') => out.push_str("\\\""),
            Some(b'\\') => out.push_str("\\\\"),
            Some(b'\n') => out.push_str("\\n"),
            Some(b'\r') => out.push_str("\\r"),
            Some(b'\t') => out.push_str("\\t"),
            Some(control) => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(control >> 4)]));
                out.push(char::from(HEX[usize::from(control & 15)]));
            }
        }
        run = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in "[\\x00-\\x7fé🚀]{0,40}") {
            let mut out = String::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
