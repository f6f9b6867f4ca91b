//! Python's comparisons, on JSON.
//!
//! Invariants:
//! - Numbers are compared by their exact value, however long they are: an integer is never rounded to a float.
//! - `true` and `1` are equal, `1` and `1.0` are equal, and nothing else of two types is.
//! - Strings are ordered by code point, lists by their first differing element; everything else has no order.

use std::cmp::Ordering;

use hookwire_json::{Content, List, Node, Object};
use serde_json::Value;

/// A JSON value as it is compared: borrowed from wherever it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(&'a str),
    List(Items<'a>),
    Object(Object<'a>),
}

/// The elements of a list: of one that stands in a document, or of one that a path has collected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Items<'a> {
    Written(List<'a>),
    Collected(&'a [Node<'a>]),
}

impl<'a> Items<'a> {
    fn len(self) -> usize {
        match self {
            Items::Written(items) => items.len(),
            Items::Collected(items) => items.len(),
        }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = View<'a>> {
        let (written, collected) = match self {
            Items::Written(items) => (Some(items), &[][..]),
            Items::Collected(items) => (None, items),
        };
        let nodes = written.into_iter().flat_map(List::iter).chain(collected.iter().copied());
        nodes.map(|node| View::from(node.content()))
    }
}

impl<'a> From<Content<'a>> for View<'a> {
    fn from(content: Content<'a>) -> Self {
        match content {
            Content::Null => View::Null,
            Content::Bool(value) => View::Bool(value),
            Content::Number(number) => View::Number(number),
            Content::Text(text) => View::Text(text),
            Content::List(items) => View::List(Items::Written(items)),
            Content::Object(members) => View::Object(members),
        }
    }
}

impl<'a> From<Node<'a>> for View<'a> {
    fn from(node: Node<'a>) -> Self {
        node.content().into()
    }
}

impl View<'_> {
    /// What kind of JSON value this is, for a message.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            View::Null => "null",
            View::Bool(_) => "a boolean",
            View::Number(_) => "a number",
            View::Text(_) => "a string",
            View::List(_) => "a list",
            View::Object(_) => "an object",
        }
    }

    pub(crate) fn to_value(self) -> Value {
        match self {
            View::Null => Value::Null,
            View::Bool(value) => Value::Bool(value),
            View::Number(number) => Value::Number(number.parse().expect("it was read as a number")),
            View::Text(text) => Value::from(text),
            View::List(Items::Written(items)) => items.iter().map(Node::to_value).collect(),
            View::List(Items::Collected(items)) => items.iter().map(|item| item.to_value()).collect(),
            View::Object(members) => {
                members.iter().map(|(name, member)| (name.to_owned(), member.to_value())).collect()
            }
        }
    }
}

/// What equal values have in common, so that they can be looked up: two values with keys are equal if their keys are.
/// A value without a key equals none that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
}

impl<'a> Key<'a> {
    pub(crate) fn of(view: View<'a>) -> Option<Self> {
        match view {
            View::Null => Some(Key::Null),
            View::Text(text) => Some(Key::Text(text)),
            View::List(_) | View::Object(_) => None,
            View::Bool(_) | View::Number(_) => match Numeric::of(view)? {
                Numeric::Small(integer) => i64::try_from(integer).ok().map(Key::Integer),
                Numeric::Float(float) if float.fract() == 0.0 && (-KEY_MAX..KEY_MAX).contains(&float) => {
                    Some(Key::Integer(float as i64))
                }
                Numeric::Float(_) | Numeric::Large { .. } => None,
            },
        }
    }
}

/// Floats without a fraction are integers of 64 bits from the negative of this up to, but without, this.
const KEY_MAX: f64 = (1u64 << 63) as f64;

/// A number as Python reads it from JSON: an integer of any size, or a float.
#[derive(Debug, Clone, Copy)]
enum Numeric<'a> {
    Small(i128),
    /// An integer that fits no `i128`: its sign, and its digits without leading zeros.
    Large {
        negative: bool,
        digits: &'a str,
    },
    Float(f64),
}

impl<'a> Numeric<'a> {
    fn of(view: View<'a>) -> Option<Self> {
        match view {
            View::Number(number) => Some(Self::parse(number)),
            View::Bool(value) => Some(Numeric::Small(i128::from(value))),
            View::Null | View::Text(_) | View::List(_) | View::Object(_) => None,
        }
    }

    fn parse(text: &'a str) -> Self {
        if text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
            // What is too large for a float is an infinity in Python, too.
            return Numeric::Float(text.parse().expect("JSON's floats are among Rust's"));
        }
        match text.parse() {
            Ok(small) => Numeric::Small(small),
            Err(_) => {
                let (negative, digits) = match text.strip_prefix('-') {
                    Some(digits) => (true, digits),
                    None => (false, text),
                };
                Numeric::Large { negative, digits: digits.trim_start_matches('0') }
            }
        }
    }

    /// The order of two numbers. JSON has no NaN, so there always is one.
    fn order(self, other: Numeric<'_>) -> Ordering {
        use Numeric::{Float, Large, Small};
        match (self, other) {
            (Small(a), Small(b)) => a.cmp(&b),
            (Float(a), Float(b)) => a.partial_cmp(&b).expect("JSON has no NaN"),
            (Small(a), Float(b)) => order_with_float(a, b),
            (Float(a), Small(b)) => order_with_float(b, a).reverse(),
            (Large { negative, digits }, Large { negative: other_negative, digits: other_digits }) => {
                order_of_large(negative, digits, other_negative, other_digits)
            }
            (Large { negative, .. }, Small(_)) => sign(negative),
            (Small(_), Large { negative, .. }) => sign(negative).reverse(),
            (Large { negative, digits }, Float(b)) => large_with_float(negative, digits, b),
            (Float(a), Large { negative, digits }) => large_with_float(negative, digits, a).reverse(),
        }
    }
}

/// Beyond this a float has no fraction, and an `i128` may not hold it.
const FLOAT_WHOLE: f64 = (1u128 << 100) as f64;

fn order_with_float(integer: i128, float: f64) -> Ordering {
    if float.abs() >= FLOAT_WHOLE {
        let (negative, digits) = (integer < 0, integer.unsigned_abs().to_string());
        return large_with_float(negative, &digits, float);
    }
    let whole = float.trunc();
    // An equal whole part leaves it to the fraction, which lies on the float's side.
    integer.cmp(&(whole as i128)).then(0.0_f64.partial_cmp(&(float - whole)).expect("a finite float"))
}

fn large_with_float(negative: bool, digits: &str, float: f64) -> Ordering {
    if float.is_infinite() {
        return sign(float < 0.0).reverse();
    }
    // Rust prints the exact value of a float. Its fraction is lost, but only a float that is smaller by many digits has
    // one.
    let text = format!("{:.0}", float.trunc().abs());
    order_of_large(negative, digits, float < 0.0, text.trim_start_matches('0'))
}

fn order_of_large(negative: bool, digits: &str, other_negative: bool, other_digits: &str) -> Ordering {
    match (negative, other_negative) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        _ => {
            let order = digits.len().cmp(&other_digits.len()).then_with(|| digits.cmp(other_digits));
            if negative { order.reverse() } else { order }
        }
    }
}

/// How a number of this sign stands to any that is smaller in size.
fn sign(negative: bool) -> Ordering {
    if negative { Ordering::Less } else { Ordering::Greater }
}

/// Python's `a == b`. It is never an error.
pub(crate) fn equal(a: View<'_>, b: View<'_>) -> bool {
    match (a, b) {
        (View::Null, View::Null) => true,
        (View::Text(a), View::Text(b)) => a == b,
        (View::List(a), View::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equal(a, b))
        }
        (View::Object(a), View::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a.into(), b.into())))
        }
        // Spelled alike is nearly always how equal numbers come.
        (View::Number(a), View::Number(b)) if a == b => true,
        _ => match (Numeric::of(a), Numeric::of(b)) {
            (Some(a), Some(b)) => a.order(b).is_eq(),
            _ => false,
        },
    }
}

/// Two values that have no order, or of which one cannot contain the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfit;

/// Python's order, as `<`, `<=`, `>` and `>=` see it.
pub(crate) fn order(a: View<'_>, b: View<'_>) -> Result<Ordering, Unfit> {
    match (a, b) {
        (View::Text(a), View::Text(b)) => Ok(a.cmp(b)),
        (View::List(a), View::List(b)) => match a.iter().zip(b.iter()).find(|(a, b)| !equal(*a, *b)) {
            Some((a, b)) => order(a, b),
            None => Ok(a.len().cmp(&b.len())),
        },
        _ => match (Numeric::of(a), Numeric::of(b)) {
            (Some(a), Some(b)) => Ok(a.order(b)),
            _ => Err(Unfit),
        },
    }
}

/// Python's `part in whole`.
pub(crate) fn contains(whole: View<'_>, part: View<'_>) -> Result<bool, Unfit> {
    match (whole, part) {
        (View::Text(whole), View::Text(part)) => Ok(whole.contains(part)),
        (View::List(items), part) => Ok(items.iter().any(|item| equal(item, part))),
        // A list or an object is no key of a Python dict: asking for one is an error.
        (View::Object(_), View::List(_) | View::Object(_)) => Err(Unfit),
        (View::Object(members), View::Text(name)) => Ok(members.get(name).is_some()),
        (View::Object(_), _) => Ok(false),
        _ => Err(Unfit),
    }
}

#[cfg(test)]
mod tests {
    use hookwire_json::Json;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    #[test]
    fn equality_is_pythons() {
        for (a, b, expected) in [
            ("1", "true", true),
            ("0", "false", true),
            ("1", "1.0", true),
            ("-0.0", "0", true),
            ("1e2", "100", true),
            ("\"1\"", "1", false),
            ("null", "0", false),
            ("null", "false", false),
            ("9007199254740993", "9007199254740992.0", false),
            ("100000000000000000000000000000000000000000", "1e41", false),
            ("100000000000000000000", "1e20", true),
            (
                "123456789012345678901234567890123456789012345",
                "123456789012345678901234567890123456789012345",
                true,
            ),
            ("[1, [true]]", "[1.0, [1]]", true),
            ("[1]", "[1, 2]", false),
            ("{\"a\": 1, \"b\": 2}", "{\"b\": 2.0, \"a\": true}", true),
            ("{\"a\": 1}", "{\"a\": 1, \"b\": 2}", false),
            ("\"é\"", "\"e\u{301}\"", false),
        ] {
            let (a, b) = (value(a), value(b));
            assert_eq!(equal(a.root().into(), b.root().into()), expected, "{a:?} == {b:?}");
            assert_eq!(equal(b.root().into(), a.root().into()), expected, "{b:?} == {a:?}");
        }
    }

    #[test]
    fn order_is_pythons() {
        let (less, equal, greater) = (Ok(Ordering::Less), Ok(Ordering::Equal), Ok(Ordering::Greater));
        for (a, b, expected) in [
            ("1", "2", less),
            ("true", "1", equal),
            ("5", "5.5", less),
            ("-5", "-5.5", greater),
            ("9007199254740993", "9007199254740992.0", greater),
            ("1e400", "1", greater),
            ("-1e400", "-99999999999999999999999999999999999999999999", less),
            ("99999999999999999999999999999999999999999999", "1", greater),
            ("-99999999999999999999999999999999999999999999", "1", less),
            (
                "99999999999999999999999999999999999999999999",
                "99999999999999999999999999999999999999999998",
                greater,
            ),
            ("99999999999999999999999999999999999999999999", "1e43", greater),
            ("99999999999999999999999999999999999999999999", "1e44", less),
            ("99999999999999999999999999999999999999999999", "0.5", greater),
            ("170141183460469231731687303715884105727", "1.7014118346046923e38", less),
            ("\"a\"", "\"b\"", less),
            ("\"Z\"", "\"a\"", less),
            ("\"\u{ffff}\"", "\"\u{10000}\"", less),
            ("[1, 2]", "[1, 3]", less),
            ("[1]", "[1, 2]", less),
            ("[1, null]", "[1, null]", equal),
            ("[null]", "[1]", Err(Unfit)),
            ("\"5\"", "5", Err(Unfit)),
            ("null", "null", Err(Unfit)),
            ("{}", "{}", Err(Unfit)),
        ] {
            let (a, b) = (value(a), value(b));
            assert_eq!(order(a.root().into(), b.root().into()), expected, "{a:?} and {b:?}");
            assert_eq!(
                order(b.root().into(), a.root().into()),
                expected.map(Ordering::reverse),
                "{b:?} and {a:?}"
            );
        }
    }

    #[test]
    fn containment_is_pythons() {
        for (whole, part, expected) in [
            (json!("abc"), json!("bc"), Ok(true)),
            (json!("abc"), json!(""), Ok(true)),
            (json!("1"), json!(1), Err(Unfit)),
            (json!([1, "a"]), json!(true), Ok(true)),
            (json!([["a"]]), json!(["a"]), Ok(true)),
            (json!(["ab"]), json!("a"), Ok(false)),
            (json!({"a": 0}), json!("a"), Ok(true)),
            (json!({"a": 0}), json!(0), Ok(false)),
            (json!({"a": 0}), json!(["a"]), Err(Unfit)),
            (json!(5), json!(5), Err(Unfit)),
            (json!(null), json!("a"), Err(Unfit)),
            (json!(true), json!(true), Err(Unfit)),
        ] {
            let (whole, part) = (Json::from(whole), Json::from(part));
            assert_eq!(contains(whole.root().into(), part.root().into()), expected, "{part:?} in {whole:?}");
        }
    }

    #[test]
    fn equal_values_have_equal_keys() {
        let values = [
            "null",
            "true",
            "false",
            "0",
            "-0.0",
            "1",
            "1.0",
            "1e0",
            "2",
            "0.5",
            "\"1\"",
            "\"\"",
            "[]",
            "{}",
            "-1",
            "-1.0",
            "9223372036854775807",
            "9223372036854775808",
            "9223372036854775808.0",
            "-9223372036854775808",
            "-9223372036854775808.0",
            "9223372036854774784.0",
            "9223372036854774784",
            "1e400",
        ]
        .map(value);
        for a in &values {
            for b in &values {
                if let (Some(key), other) = (Key::of(a.root().into()), Key::of(b.root().into())) {
                    assert_eq!(
                        equal(a.root().into(), b.root().into()),
                        other == Some(key),
                        "{a:?} and {b:?}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn integers_and_floats_keep_their_order(integer: i64, float in prop::num::f64::NORMAL | prop::num::f64::ZERO) {
            let (a, b) = (value(&integer.to_string()), value(&format!("{float:?}")));
            // Both fit a 1100-bit number exactly; the decimal text of a float is its exact value.
            let exact = format!("{float:.1100}");
            let (whole, fraction) = exact.split_once('.').unwrap();
            let expected = match whole.parse::<i128>() {
                Ok(whole) => {
                    let rest = fraction.bytes().any(|b| b != b'0');
                    let on_float = if float < 0.0 { Ordering::Greater } else { Ordering::Less };
                    i128::from(integer).cmp(&whole).then(if rest { on_float } else { Ordering::Equal })
                }
                Err(_) => if float < 0.0 { Ordering::Greater } else { Ordering::Less },
            };
            prop_assert_eq!(order(a.root().into(), b.root().into()), Ok(expected));
        }

        #[test]
        fn digits_decide_between_long_integers(a in "-?[1-9][0-9]{35,50}", b in "-?[1-9][0-9]{35,50}") {
            let key = |text: &str| {
                let digits = text.trim_start_matches('-');
                let padded = format!("{digits:0>60}");
                if text.starts_with('-') {
                    format!("-{}", padded.bytes().map(|b| (b'0' + b'9' - b) as char).collect::<String>())
                } else {
                    format!("0{padded}")
                }
            };
            let expected = key(&a).cmp(&key(&b));
            prop_assert_eq!(order(value(&a).root().into(), value(&b).root().into()), Ok(expected));
        }
    }
}
