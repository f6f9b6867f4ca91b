//! JSON text, indented by four: white space between the tokens changes, the tokens stay as they came.
//!
//! Invariants:
//! - Every character and every number is copied, none is interpreted: `1.0`, `1e400`, 30 digits and `\u00e9` stay.
//! - Text that is not JSON is not touched.
//! - Neither depth nor size of the input makes it recurse or allocate; lines deeper than [`DEEPEST`] are not moved further
//!   to the right, so that ten million brackets don't become terabytes of blanks.

use std::io::{self, Write};

use serde::de::IgnoredAny;

/// 64 levels of four blanks are wider than any screen.
const DEEPEST: usize = 64;
const BLANKS: [u8; 4 * DEEPEST] = [b' '; 4 * DEEPEST];

/// Is this exactly one JSON value, with nothing but white space around it?
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Writes `json`, for which [`is_json`] must hold, indented by four and without a line end. For other text the output is
/// without meaning, yet bounded all the same.
pub(crate) fn write_indented(out: &mut impl Write, json: &str) -> io::Result<()> {
    let bytes = json.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            b'"' => {
                let end = string_end(bytes, at);
                out.write_all(&bytes[at..end])?;
                at = end;
            }
            b'{' | b'[' => {
                at = skip_space(bytes, at + 1);
                match bytes.get(at) {
                    Some(&close @ (b'}' | b']')) => {
                        out.write_all(&[byte, close])?;
                        at += 1;
                    }
                    _ => {
                        depth += 1;
                        out.write_all(&[byte])?;
                        new_line(out, depth)?;
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(out, depth)?;
                out.write_all(&[byte])?;
                at += 1;
            }
            b',' => {
                out.write_all(b",")?;
                new_line(out, depth)?;
                at += 1;
            }
            b':' => {
                out.write_all(b": ")?;
                at += 1;
            }
            _ => {
                out.write_all(&[byte])?;
                at += 1;
            }
        }
    }
    Ok(())
}

fn new_line(out: &mut impl Write, depth: usize) -> io::Result<()> {
    out.write_all(b"\n")?;
    out.write_all(&BLANKS[..4 * depth.min(DEEPEST)])
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The position after the string that starts at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn indented(json: &str) -> String {
        let mut out = Vec::new();
        write_indented(&mut out, json).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn p16_json_is_indented_by_four_and_tokens_stay() {
        insta::assert_snapshot!(
            indented(
                "{\"foo\":\"bar\" , \"n\":[1.0,1e+16,-0,123456789012345678901234567890,1E400],\
                 \"u\":\"é \\u00e9 \\\"}{][,:\\\\\",\"empty\":[{},[ ],{\n}],\"a\":{\"b\":[true,false,null]},\"é\":1}"
            ),
            @r#"
        {
            "foo": "bar",
            "n": [
                1.0,
                1e+16,
                -0,
                123456789012345678901234567890,
                1E400
            ],
            "u": "é \u00e9 \"}{][,:\\",
            "empty": [
                {},
                [],
                {}
            ],
            "a": {
                "b": [
                    true,
                    false,
                    null
                ]
            },
            "é": 1
        }
        "#
        );
    }

    #[test]
    fn p16_scalars_and_repeated_names_stay() {
        for (json, expected) in [
            (" 1.0 ", "1.0"),
            ("\"a b\"", "\"a b\""),
            ("null", "null"),
            ("{\"a\":1,\"a\":2}", "{\n    \"a\": 1,\n    \"a\": 2\n}"),
            ("[]", "[]"),
            ("\t{ }\r\n", "{}"),
        ] {
            assert!(is_json(json), "{json}");
            assert_eq!(indented(json), expected);
        }
    }

    #[test]
    fn what_is_not_json_is_told() {
        for text in
            ["", " ", "{", "{'a': 1}", "{\"a\": 1,}", "[1 2]", "{} {}", "nul", "01", "\"a", "\u{feff}{}"]
        {
            assert!(!is_json(text), "{text}");
        }
    }

    #[test]
    fn p17_deep_nesting_costs_no_stack_and_no_terabytes() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(is_json(&deep));
        let shown = indented(&deep);
        assert!(shown.len() < deep.len() * (4 * DEEPEST + 2), "{}", shown.len());
        let widest = shown.lines().map(str::len).max().unwrap();
        assert_eq!(widest, 4 * DEEPEST + 2, "the innermost pair of brackets at the deepest indentation");
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".*", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn p16_indenting_is_what_a_printer_with_four_blanks_gives(value in json_value()) {
            let mut expected = Vec::new();
            let four = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut printer = serde_json::Serializer::with_formatter(&mut expected, four);
            serde::Serialize::serialize(&value, &mut printer).unwrap();
            let expected = String::from_utf8(expected).unwrap();
            prop_assert_eq!(indented(&value.to_string()), expected.clone());
            prop_assert_eq!(indented(&expected), expected, "indenting again changes nothing");
        }

        #[test]
        fn p17_any_text_is_indented_without_a_panic(text in ".*") {
            let mut out = Vec::new();
            write_indented(&mut out, &text).unwrap();
            prop_assert!(out.len() <= text.len() * (4 * DEEPEST + 2));
        }
    }
}
