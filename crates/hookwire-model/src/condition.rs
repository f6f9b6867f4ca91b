//! Conditions as a tree: parsed from a JSON document, checked, printable; not evaluated.
//!
//! The language is NetBox's (release 4.7), and a strict superset of it: what NetBox accepts means the same here, and
//! the additions are documents that NetBox refuses.
//!
//! Invariants:
//! - A [`Test`] is complete and its operator accepts its operand; evaluating it need not check again.
//! - [`Condition::to_value`] and [`Condition::parse`] are inverses: what was printed reads back as the same condition.
//! - Sets and negations are nested at most [`CONDITION_DEPTH_MAX`] deep, so walking a condition needs little stack.
//!
//! Absences: patterns of `regex` are not compiled here, and nothing is looked up in an event.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::CONTEXT_MEMBERS;

/// How deep `and`, `or` and `not` may be nested. People write three levels; the limit keeps walking the tree bounded.
pub const CONDITION_DEPTH_MAX: usize = 50;

/// A predicate over one event.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// `{"and": [...]}`: all of them hold. The empty set holds.
    All(Vec<Condition>),
    /// `{"or": [...]}`: one of them holds. The empty set does not hold.
    Any(Vec<Condition>),
    /// `{"not": ...}`: the other does not hold.
    Not(Box<Condition>),
    /// A comparison of one value.
    Test(Test),
}

/// A comparison of one value of the event: `{"attr": "status.value", "op": "eq", "value": "active"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    subject: Subject,
    operator: Operator,
    operand: Operand,
    negate: bool,
}

impl Test {
    /// Where the value to compare stands.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// How it is compared.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// What it is compared with.
    pub fn operand(&self) -> &Operand {
        &self.operand
    }

    /// Whether the result is turned round. A value that cannot be compared stays an error.
    pub fn negate(&self) -> bool {
        self.negate
    }
}

/// Where the value to compare stands. Names are joined by dots; a list on the way means each of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `attr`: a path in the event's `data`, or one that begins with `snapshots`.
    Attr(Arc<str>),
    /// `path`: a path in the whole template context, such as `username` or `request.method`.
    Path(Arc<str>),
}

impl Subject {
    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Subject::Attr(path) | Subject::Path(path) => path,
        }
    }
}

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// Nothing: the operator needs no more.
    None,
    /// `value`: a JSON value.
    Value(Value),
    /// `value_path`: whatever stands at another path. If it begins with the name of a member of the template context it
    /// is a path in that, else one in `data`.
    Path(Arc<str>),
}

/// Whether a dotted path begins with a member of the template context.
pub fn is_context_path(path: &str) -> bool {
    let first = path.split('.').next().unwrap_or_default();
    CONTEXT_MEMBERS.contains(&first)
}

macro_rules! operators {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// How a value is compared.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operator {
            $($(#[$doc])* $variant),+
        }

        impl Operator {
            /// Every operator, in the order of the documentation.
            pub const ALL: &'static [Operator] = &[$(Operator::$variant),+];

            /// The word that stands in documents.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Operator::$variant => $word),+
                }
            }

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Operator::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

operators! {
    /// Equal, as Python compares: `1`, `1.0` and `true` are equal, strings of other case are not. The default.
    Eq = "eq",
    /// Not equal.
    Ne = "ne",
    /// Greater than.
    Gt = "gt",
    /// Greater than or equal.
    Gte = "gte",
    /// Less than.
    Lt = "lt",
    /// Less than or equal.
    Lte = "lte",
    /// The value is an element of the list.
    In = "in",
    /// The value, a list, string or object, contains the operand as element, part or member.
    Contains = "contains",
    /// The value matches the pattern from its start (Python's `re.match`).
    Regex = "regex",
    /// The value, a string, starts with the operand.
    StartsWith = "starts_with",
    /// The value, a string, ends with the operand.
    EndsWith = "ends_with",
    /// The value, an IP address or network, lies within the operand: a network, or one of a list of them.
    Cidr = "cidr",
    /// The path leads somewhere, if only to null.
    Exists = "exists",
    /// The attribute differs between the two snapshots.
    Changed = "changed",
    /// The attribute is the same in both snapshots.
    Unchanged = "unchanged",
    /// The attribute was the operand before, and is something else now.
    ChangedFrom = "changed_from",
    /// The attribute is the operand now, and was something else before.
    ChangedTo = "changed_to",
}

impl Operator {
    /// Whether it compares the attribute within the two snapshots.
    pub fn compares_snapshots(self) -> bool {
        use Operator::{Changed, ChangedFrom, ChangedTo, Unchanged};
        matches!(self, Changed | Unchanged | ChangedFrom | ChangedTo)
    }

    /// What its operand may be, in words; `None` if it takes none.
    fn takes(self) -> Option<&'static str> {
        use Operator::*;
        match self {
            Eq | Ne | ChangedFrom | ChangedTo => Some("a string, number, boolean, list or null"),
            Gt | Gte | Lt | Lte => Some("a number"),
            In => Some("a list"),
            Contains => Some("a string, number, boolean or list"),
            Regex | StartsWith | EndsWith => Some("a string"),
            Cidr => {
                Some("a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", an address, or a list of these")
            }
            Exists => Some("true or false, or no value"),
            Changed | Unchanged => None,
        }
    }

    fn accepts(self, value: &Value) -> bool {
        use Operator::*;
        match self {
            Eq | Ne | ChangedFrom | ChangedTo => !value.is_object(),
            Gt | Gte | Lt | Lte => value.is_number(),
            In => value.is_array(),
            Contains => !value.is_object() && !value.is_null(),
            Regex | StartsWith | EndsWith => value.is_string(),
            Cidr => match value {
                Value::String(text) => is_network(text),
                Value::Array(list) => list.iter().all(|item| item.as_str().is_some_and(is_network)),
                _ => false,
            },
            Exists => value.is_boolean(),
            Changed | Unchanged => false,
        }
    }

    fn accepts_path(self) -> bool {
        use Operator::*;
        match self {
            Eq | Ne | Gt | Gte | Lt | Lte | In | Contains | StartsWith | EndsWith | Cidr => true,
            // A pattern from the data could not be checked beforehand.
            Regex | Exists | Changed | Unchanged | ChangedFrom | ChangedTo => false,
        }
    }
}

/// Whether a text is an IP address, or one with the length of a prefix.
fn is_network(text: &str) -> bool {
    use std::net::IpAddr;
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= longest))
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Condition {
    /// Reads a condition document.
    ///
    /// `None` for a document that is falsy in Python (`null`, `{}`, `[]`, and also `false`, `0`, `""`): NetBox takes it
    /// for no condition at all, which always holds.
    ///
    /// # Errors
    /// [`ConditionError`] with the first thing that is wrong: whatever NetBox refuses when it constructs a condition
    /// set, unless it belongs to the additions, and what is nested more than [`CONDITION_DEPTH_MAX`] deep.
    pub fn parse(document: &Value) -> Result<Option<Condition>, ConditionError> {
        if !is_truthy(document) {
            return Ok(None);
        }
        let mut place = Place::default();
        parse_rule(document, &mut place, true).map(Some)
    }

    /// The document of this condition. Members that have their default value are left out.
    pub fn to_value(&self) -> Value {
        let one = |name: &str, value| Value::Object(Map::from_iter([(name.to_owned(), value)]));
        match self {
            Condition::All(rules) => one("and", rules.iter().map(Condition::to_value).collect()),
            Condition::Any(rules) => one("or", rules.iter().map(Condition::to_value).collect()),
            Condition::Not(rule) => one("not", rule.to_value()),
            Condition::Test(test) => test.to_value(),
        }
    }
}

/// The compact JSON of the document.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_value().fmt(f)
    }
}

impl Test {
    fn to_value(&self) -> Value {
        let mut members = Map::new();
        let name = match &self.subject {
            Subject::Attr(_) => "attr",
            Subject::Path(_) => "path",
        };
        members.insert(name.into(), self.subject.as_str().into());
        if self.operator != Operator::Eq {
            members.insert("op".into(), self.operator.as_str().into());
        }
        match &self.operand {
            Operand::None => {}
            Operand::Value(value) => _ = members.insert("value".into(), value.clone()),
            Operand::Path(path) => _ = members.insert("value_path".into(), (**path).into()),
        }
        if self.negate {
            members.insert("negate".into(), true.into());
        }
        Value::Object(members)
    }
}

/// Why a document was refused as a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}; {remedy}", if pointer.is_empty() { String::new() } else { format!("{pointer}: ") })]
pub struct ConditionError {
    /// Where in the document, as a JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// The place in the document that is being read: names and numbers, from the root.
#[derive(Default)]
struct Place(Vec<String>);

impl Place {
    fn error(&self, message: impl Into<String>, remedy: impl Into<String>) -> ConditionError {
        let pointer = self.0.iter().map(|token| format!("/{token}")).collect();
        ConditionError { pointer, message: message.into(), remedy: remedy.into() }
    }

    fn error_at(
        &self,
        member: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConditionError {
        let mut error = self.error(message, remedy);
        error.pointer =
            format!("{}/{}", error.pointer, excerpt(member).replace('~', "~0").replace('/', "~1"));
        error
    }

    fn within<T>(&mut self, token: impl Into<String>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.0.push(token.into());
        let result = read(self);
        self.0.pop();
        result
    }

    /// How many sets and negations stand around this place: each has a name, and the sets a number as well.
    fn depth(&self) -> usize {
        self.0.iter().filter(|token| matches!(token.as_str(), "and" | "or" | "not")).count()
    }
}

const RULE_REMEDY: &str =
    "write {\"attr\": .., \"value\": ..}, {\"and\": [..]}, {\"or\": [..]} or {\"not\": {..}}";

fn parse_rule(document: &Value, place: &mut Place, top: bool) -> Result<Condition, ConditionError> {
    let Value::Object(members) = document else {
        return Err(
            place.error(format!("a condition is an object, this is {}", kind_of(document)), RULE_REMEDY)
        );
    };
    let mut names = members.iter();
    if let (Some((name, value)), None) = (names.next(), names.next()) {
        match name.as_str() {
            "and" => return parse_set(name, value, place).map(Condition::All),
            "or" => return parse_set(name, value, place).map(Condition::Any),
            "not" => {
                return place.within("not", |place| {
                    check_depth(place)?;
                    parse_rule(value, place, false).map(|rule| Condition::Not(Box::new(rule)))
                });
            }
            other if ["and", "or", "not"].contains(&other.to_lowercase().as_str()) => {
                return Err(place.error_at(
                    other,
                    format!("{other:?} is not known here"),
                    format!("write it in lower case: \"{}\"", other.to_lowercase()),
                ));
            }
            "attr" | "path" | "op" | "value" | "value_path" | "negate" => {}
            _ if top => {
                return Err(place.error_at(
                    name,
                    format!("{:?} is no member of a condition", excerpt(name)),
                    RULE_REMEDY,
                ));
            }
            _ => {}
        }
    }
    parse_test(members, place).map(Condition::Test)
}

fn check_depth(place: &Place) -> Result<(), ConditionError> {
    if place.depth() > CONDITION_DEPTH_MAX {
        let message = format!("conditions are nested more than {CONDITION_DEPTH_MAX} deep");
        return Err(place.error(message, "join sets of the same kind, or split the rule"));
    }
    Ok(())
}

fn parse_set(name: &str, value: &Value, place: &mut Place) -> Result<Vec<Condition>, ConditionError> {
    place.within(name, |place| {
        check_depth(place)?;
        let rules = match value {
            Value::Array(rules) => rules.as_slice(),
            // Python iterates these as well, and finds nothing: NetBox takes them for the empty set.
            Value::Object(members) if members.is_empty() => &[],
            Value::String(text) if text.is_empty() => &[],
            other => {
                let message = format!("\"{name}\" needs a list of conditions, has {}", kind_of(other));
                return Err(place.error(message, format!("write {{\"{name}\": [{{..}}, {{..}}]}}")));
            }
        };
        let rules = rules.iter().enumerate();
        rules.map(|(at, rule)| place.within(at.to_string(), |place| parse_rule(rule, place, false))).collect()
    })
}

fn parse_test(members: &Map<String, Value>, place: &Place) -> Result<Test, ConditionError> {
    if let Some(name) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(unknown_member(name, place));
    }
    let operator = parse_operator(members.get("op"), place)?;
    let subject = parse_subject(members, operator, place)?;
    let operand = parse_operand(members, operator, place)?;
    // NetBox asks for the truth of whatever stands there.
    let negate = members.get("negate").is_some_and(is_truthy);
    Ok(Test { subject, operator, operand, negate })
}

const MEMBERS: [&str; 6] = ["attr", "path", "op", "value", "value_path", "negate"];

fn unknown_member(name: &str, place: &Place) -> ConditionError {
    let message = format!("{:?} is no member of a condition", excerpt(name));
    let remedy = match name {
        "and" | "or" | "not" => {
            format!(
                "a set stands alone in its object: write {{\"{name}\": ..}}, and {{\"not\": ..}} around it in place of \"negate\""
            )
        }
        "field" | "attribute" | "key" | "name" | "Attr" => "use \"attr\"".into(),
        "operator" | "Op" => "use \"op\"".into(),
        "values" | "Value" => "use \"value\"".into(),
        "negated" | "invert" | "Negate" => "use \"negate\"".into(),
        _ => format!("it has {}", MEMBERS.join(", ")),
    };
    place.error_at(name, message, remedy)
}

fn parse_operator(op: Option<&Value>, place: &Place) -> Result<Operator, ConditionError> {
    let Some(op) = op else { return Ok(Operator::Eq) };
    let Some(word) = op.as_str() else {
        return Err(place.error_at(
            "op",
            format!("an operator is a string, this is {}", kind_of(op)),
            operators_remedy(),
        ));
    };
    Operator::from_word(word).ok_or_else(|| {
        let remedy = match word.to_lowercase().as_str() {
            "==" | "=" | "equals" | "is" => "use \"eq\"".into(),
            "!=" | "<>" | "neq" | "not" => "use \"ne\"".into(),
            ">" => "use \"gt\"".into(),
            ">=" | "ge" => "use \"gte\"".into(),
            "<" => "use \"lt\"".into(),
            "<=" | "le" => "use \"lte\"".into(),
            "match" | "matches" | "re" | "iregex" => {
                "use \"regex\"; \"(?i)\" at the start of the pattern ignores case".into()
            }
            "icontains" | "iexact" => "use \"regex\" with \"(?i)\" at the start of the pattern".into(),
            "startswith" | "istartswith" => "use \"starts_with\"".into(),
            "endswith" | "iendswith" => "use \"ends_with\"".into(),
            "not_in" | "nin" => "use \"in\" with \"negate\": true".into(),
            lower if Operator::from_word(lower).is_some() => format!("write it in lower case: \"{lower}\""),
            _ => operators_remedy(),
        };
        place.error_at("op", format!("{:?} is no operator", excerpt(word)), remedy)
    })
}

fn operators_remedy() -> String {
    let words: Vec<_> = Operator::ALL.iter().map(|operator| operator.as_str()).collect();
    format!("use one of: {}", words.join(", "))
}

fn parse_subject(
    members: &Map<String, Value>,
    operator: Operator,
    place: &Place,
) -> Result<Subject, ConditionError> {
    let text = |name: &str, value: &Value| match value {
        Value::String(text) => Ok(Arc::<str>::from(text.as_str())),
        other => Err(place.error_at(
            name,
            format!("\"{name}\" needs a string, has {}", kind_of(other)),
            "write the names on the way, joined by dots, such as \"status.value\"",
        )),
    };
    match (members.get("attr"), members.get("path")) {
        (None, None) => Err(place.error(
            "\"attr\" is missing: which value is to be compared",
            "add it, such as \"attr\": \"status.value\"",
        )),
        (Some(_), Some(_)) => Err(place.error(
            "\"attr\" and \"path\" exclude each other",
            "keep \"attr\" for data and snapshots, \"path\" for the whole context",
        )),
        (Some(attr), None) => {
            let attr = text("attr", attr)?;
            if operator.compares_snapshots() && attr.starts_with("snapshots.") {
                let message = format!("\"{operator}\" looks into both snapshots by itself");
                return Err(place.error_at("attr", message, "name the attribute alone, such as \"status\""));
            }
            Ok(Subject::Attr(attr))
        }
        (None, Some(path)) => {
            let path = text("path", path)?;
            if operator.compares_snapshots() {
                let message = format!("\"{operator}\" compares an attribute of the snapshots");
                return Err(place.error_at("path", message, "use \"attr\", such as \"attr\": \"status\""));
            }
            if !is_context_path(&path) {
                let message = format!("{:?} begins with no member of the context", excerpt(&path));
                let remedy = format!(
                    "begin with one of: {}; or use \"attr\" for what stands in data",
                    CONTEXT_MEMBERS.join(", ")
                );
                return Err(place.error_at("path", message, remedy));
            }
            Ok(Subject::Path(path))
        }
    }
}

fn parse_operand(
    members: &Map<String, Value>,
    operator: Operator,
    place: &Place,
) -> Result<Operand, ConditionError> {
    match (members.get("value"), members.get("value_path"), operator.takes()) {
        (Some(_), Some(_), _) => {
            Err(place.error("\"value\" and \"value_path\" exclude each other", "keep one of them"))
        }
        (Some(_), None, None) => Err(place.error_at(
            "value",
            format!("\"{operator}\" compares the snapshots and takes no value"),
            "leave the value out, or use \"changed_from\" or \"changed_to\"",
        )),
        (Some(value), None, Some(takes)) if !operator.accepts(value) => Err(place.error_at(
            "value",
            format!("\"{operator}\" does not take {}", operand_in_words(value)),
            format!("it takes {takes}"),
        )),
        (Some(value), None, Some(_)) => Ok(match (operator, value) {
            (Operator::Exists, Value::Bool(true)) => Operand::None,
            _ => Operand::Value(value.clone()),
        }),
        (None, Some(Value::String(path)), Some(_)) if operator.accepts_path() => {
            Ok(Operand::Path(path.as_str().into()))
        }
        (None, Some(Value::String(_)), _) => Err(place.error_at(
            "value_path",
            format!("\"{operator}\" does not compare with another path"),
            match operator.takes() {
                Some(takes) => format!("use \"value\" with {takes}"),
                None => "leave it out".into(),
            },
        )),
        (None, Some(other), _) => Err(place.error_at(
            "value_path",
            format!("\"value_path\" needs a string, has {}", kind_of(other)),
            "write the names on the way, joined by dots, such as \"snapshots.prechange.status\"",
        )),
        (None, None, Some(_)) if operator == Operator::Exists => Ok(Operand::None),
        (None, None, Some(takes)) => Err(place.error(
            format!("\"value\" is missing: \"{operator}\" compares with something"),
            format!("add \"value\" with {takes}, or \"value_path\""),
        )),
        (None, None, None) => Ok(Operand::None),
    }
}

fn operand_in_words(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", excerpt(text)),
        other => kind_of(other).into(),
    }
}

/// The truth of a JSON value as Python sees it.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        // Too small for a float is zero in Python, too.
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// What kind of JSON value this is, for a message.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refusal(document: Value) -> String {
        Condition::parse(&document).expect_err("the document should be refused").to_string()
    }

    #[test]
    fn what_is_falsy_in_python_is_no_condition() {
        for document in [json!(null), json!({}), json!([]), json!(false), json!(0), json!(0.0), json!("")] {
            assert_eq!(Condition::parse(&document).unwrap(), None, "{document}");
        }
    }

    #[test]
    fn sets_and_tests_print_as_they_were_written() {
        for document in [
            json!({"attr": "status.value", "value": "active"}),
            json!({"attr": "id", "op": "gt", "value": 5, "negate": true}),
            json!({"and": []}),
            json!({"or": [{"attr": "a", "value": null}, {"and": [{"attr": "b", "op": "in", "value": [1, 1.0]}]}]}),
            json!({"not": {"not": {"path": "username", "op": "ne", "value_path": "data.owner"}}}),
            json!({"attr": "status", "op": "changed"}),
            json!({"attr": "status", "op": "changed_to", "value": null}),
            json!({"attr": "x", "op": "exists", "value": false}),
            json!({"attr": "ip", "op": "cidr", "value": ["10.0.0.0/8", "::1"]}),
        ] {
            let condition = Condition::parse(&document).unwrap().unwrap();
            assert_eq!(condition.to_value(), document);
        }
    }

    #[test]
    fn what_netbox_lets_pass_means_the_same() {
        let parse = |document| Condition::parse(&document).unwrap().unwrap();
        assert_eq!(parse(json!({"and": {}})), Condition::All(vec![]));
        assert_eq!(parse(json!({"or": ""})), Condition::Any(vec![]));
        for (negate, expected) in
            [(json!("false"), true), (json!(0), false), (json!(null), false), (json!([0]), true)]
        {
            let Condition::Test(test) = parse(json!({"attr": "a", "value": 1, "negate": negate})) else {
                panic!("a test was written")
            };
            assert_eq!(test.negate(), expected, "{negate}");
        }
    }

    #[test]
    fn refusals_tell_place_and_remedy() {
        let table = [
            (
                json!(true),
                "a condition is an object, this is a boolean; write {\"attr\": .., \"value\": ..}, {\"and\": [..]}, {\"or\": [..]} or {\"not\": {..}}",
            ),
            (
                json!({"and": [{"attr": "a", "value": 1}, {"attr": "b", "value": 1, "op": "neq"}]}),
                "/and/1/op: \"neq\" is no operator; use \"ne\"",
            ),
            (json!({"And": []}), "/And: \"And\" is not known here; write it in lower case: \"and\""),
            (
                json!({"xor": []}),
                "/xor: \"xor\" is no member of a condition; write {\"attr\": .., \"value\": ..}, {\"and\": [..]}, {\"or\": [..]} or {\"not\": {..}}",
            ),
            (
                json!({"and": [], "negate": true}),
                "/and: \"and\" is no member of a condition; a set stands alone in its object: write {\"and\": ..}, and {\"not\": ..} around it in place of \"negate\"",
            ),
            (
                json!({"or": 5}),
                "/or: \"or\" needs a list of conditions, has a number; write {\"or\": [{..}, {..}]}",
            ),
            (
                json!({"not": [{"attr": "a", "value": 1}]}),
                "/not: a condition is an object, this is a list; write {\"attr\": .., \"value\": ..}, {\"and\": [..]}, {\"or\": [..]} or {\"not\": {..}}",
            ),
            (
                json!({"value": 1}),
                "\"attr\" is missing: which value is to be compared; add it, such as \"attr\": \"status.value\"",
            ),
            (
                json!({"attr": 5, "value": 1}),
                "/attr: \"attr\" needs a string, has a number; write the names on the way, joined by dots, such as \"status.value\"",
            ),
            (
                json!({"attr": "a"}),
                "\"value\" is missing: \"eq\" compares with something; add \"value\" with a string, number, boolean, list or null, or \"value_path\"",
            ),
            (
                json!({"attr": "a", "value": {"b": 1}}),
                "/value: \"eq\" does not take an object; it takes a string, number, boolean, list or null",
            ),
            (
                json!({"attr": "a", "op": "gt", "value": "5"}),
                "/value: \"gt\" does not take \"5\"; it takes a number",
            ),
            (
                json!({"attr": "a", "op": "changed", "value": null}),
                "/value: \"changed\" compares the snapshots and takes no value; leave the value out, or use \"changed_from\" or \"changed_to\"",
            ),
            (
                json!({"attr": "snapshots.prechange.a", "op": "changed"}),
                "/attr: \"changed\" looks into both snapshots by itself; name the attribute alone, such as \"status\"",
            ),
            (
                json!({"path": "status.value", "value": 1}),
                "/path: \"status.value\" begins with no member of the context; begin with one of: event, timestamp, object_type, model, username, request_id, data, request, snapshots, context; or use \"attr\" for what stands in data",
            ),
            (
                json!({"path": "data.a", "op": "changed"}),
                "/path: \"changed\" compares an attribute of the snapshots; use \"attr\", such as \"attr\": \"status\"",
            ),
            (
                json!({"attr": "a", "op": "regex", "value_path": "data.b"}),
                "/value_path: \"regex\" does not compare with another path; use \"value\" with a string",
            ),
            (
                json!({"attr": "a", "op": "cidr", "value": "10.0.0.0/33"}),
                "/value: \"cidr\" does not take \"10.0.0.0/33\"; it takes a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", an address, or a list of these",
            ),
            (
                json!({"attr": "a", "field~/": "b", "value": 1}),
                "/field~0~1: \"field~/\" is no member of a condition; it has attr, path, op, value, value_path, negate",
            ),
        ];
        for (document, message) in table {
            assert_eq!(refusal(document.clone()), message, "{document}");
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth| {
            (0..depth).fold(json!({"attr": "a", "value": 1}), |rule, level| match level % 3 {
                0 => json!({"and": [rule]}),
                1 => json!({"or": [rule]}),
                _ => json!({"not": rule}),
            })
        };
        assert!(Condition::parse(&nested(CONDITION_DEPTH_MAX)).is_ok());
        assert!(refusal(nested(CONDITION_DEPTH_MAX + 1)).contains("nested more than 50 deep"));
    }

    /// Any JSON value, a few levels deep.
    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no infinities", |f| f.is_finite()).prop_map(Value::from),
            "[a-z./0-9:]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec(("[a-z]{1,2}", inner), 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Documents that are conditions, or nearly so.
    fn any_document() -> impl Strategy<Value = Value> {
        let words: Vec<_> = Operator::ALL.iter().map(|operator| operator.as_str()).collect();
        let test = (
            prop::option::of(prop::sample::select(vec![
                "status.value",
                "snapshots.prechange.a",
                "data.x",
                "",
                "username",
            ])),
            prop::sample::select(vec!["attr", "path"]),
            prop::option::of(prop::sample::select(words)),
            prop::option::of(any_value()),
            prop::sample::select(vec!["value", "value", "value_path"]),
            prop::option::of(any_value()),
        );
        let test = test.prop_map(|(subject, subject_name, op, operand, operand_name, negate)| {
            let members = [
                (subject_name, subject.map(Value::from)),
                ("op", op.map(Value::from)),
                (operand_name, operand),
                ("negate", negate),
            ];
            let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(members.collect())
        });
        test.prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(|rules| json!({"and": rules})),
                prop::collection::vec(inner.clone(), 0..3).prop_map(|rules| json!({"or": rules})),
                inner.prop_map(|rule| json!({"not": rule})),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_printed_reads_back(document in any_document()) {
            if let Ok(Some(condition)) = Condition::parse(&document) {
                let printed = condition.to_value();
                prop_assert_eq!(Condition::parse(&printed).unwrap(), Some(condition));
            }
        }

        #[test]
        fn any_document_gets_an_answer(document in any_value()) {
            let _ = Condition::parse(&document).map_err(|error| error.to_string());
        }
    }
}
