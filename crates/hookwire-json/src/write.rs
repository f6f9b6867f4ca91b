//! Writes JSON.

use crate::scan::plain_len;
use crate::tree::{Content, Node};

/// Appends a value as compact JSON: numbers as they are spelled, strings with what must be escaped and nothing else.
///
/// The recursion is as deep as the document is nested, which is bounded where it is read.
pub fn push_node(out: &mut String, node: Node<'_>) {
    match node.content() {
        Content::Null | Content::Bool(_) | Content::Number(_) => out.push_str(node.as_str()),
        Content::Text(text) => push_string(out, text),
        Content::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_node(out, item);
            }
            out.push(']');
        }
        Content::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(out, name);
                out.push(':');
                push_node(out, member);
            }
            out.push('}');
        }
    }
}

/// Appends a string as a JSON string literal.
pub fn push_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    push_string_content(out, text);
    out.push('"');
}

/// Appends the content of a JSON string literal, without its quotes: only what must be escaped is.
pub fn push_string_content(out: &mut String, text: &str) {
    if plain_len(text.as_bytes()) == text.len() {
        out.push_str(text);
    } else {
        push_escaped(out, text);
    }
}

fn push_escaped(out: &mut String, text: &str) {
    let mut run = 0;
    loop {
        let at = run + plain_len(&text.as_bytes()[run..]);
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

    #[test]
    fn a_value_is_written_with_its_numbers_and_without_needless_escapes() {
        let json = crate::Json::parse(
            r#"{"\u0061": [1.0, 1E2, "\/\u00e9\b\""], "b": {"c": [], "d": {}}, "b": null}"#,
        );
        let mut out = String::new();
        push_node(&mut out, json.unwrap().root());
        assert_eq!(out, r#"{"a":[1.0,1E2,"/é\u0008\""],"b":null}"#);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in "[\\x00-\\x7fé🚀]{0,40}") {
            let mut out = String::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
