//! What is read, what is refused and what can be asked, beside serde_json.

use hookwire_json::{Content, Json, JsonError, Node};
use proptest::prelude::*;
use serde_json::Value;

/// Everything that can be asked of a node, asked: as serde_json's tree.
fn walked(node: Node<'_>) -> Value {
    match node.content() {
        Content::List(list) => {
            assert_eq!(list.iter().len(), list.len());
            assert!(list.get(list.len()).is_none());
            for (index, item) in list.iter().enumerate() {
                assert_eq!(list.get(index).unwrap().as_str(), item.as_str());
            }
            list.iter().map(walked).collect()
        }
        Content::Object(object) => {
            assert!(object.get("no such name").is_none());
            for (name, member) in object.iter() {
                assert_eq!(object.get(name).unwrap().as_str(), member.as_str(), "{name}");
            }
            object.iter().map(|(name, member)| (name.to_owned(), walked(member))).collect()
        }
        _ => node.to_value(),
    }
}

/// Reads as serde_json does, or refuses what it refuses.
fn check(text: &str) {
    match (Json::parse_nested(text, 120), serde_json::from_str::<Value>(text)) {
        (Ok(json), Ok(value)) => {
            assert_eq!(walked(json.root()), value, "{text}");
            assert_eq!(Json::parse(json.as_str()).unwrap(), json);
            let without_blanks = Json::from(&value);
            assert_eq!(walked(without_blanks.root()), value, "{text}");
        }
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{text}: {ours:?}, but {theirs:?}"),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let number = "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number.prop_map(|text| serde_json::from_str(&text).unwrap()),
        "[a-c\"\\\\\n\u{1}é🚀]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 120, 40, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..40).prop_map(Value::from),
            prop::collection::vec(("[a-e\"é]{0,2}", inner), 0..40)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_serde_json_writes_is_read_as_it_was(value in any_value()) {
        check(&value.to_string());
        check(&serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn any_text_is_read_as_serde_json_reads_it(text in "[\\[\\]{}\":, \n\ta\\\\bu0-9dDeE.+\\-tnrulfs/]{0,24}") {
        check(&text);
    }

    #[test]
    fn white_space_is_left_out_wherever_it_stands(value in any_value(), blanks in "[ \t\n\r]{0,3}") {
        let value = value.to_string();
        let mut text = String::new();
        let mut is_in_string = false;
        let mut is_escaped = false;
        for character in value.chars() {
            let is_quote = character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            let is_between = !is_in_string && "{}[],:\"".contains(character);
            text.push_str(if is_between { &blanks } else { "" });
            text.push(character);
            is_in_string ^= is_quote;
            text.push_str(if is_between && !is_in_string { &blanks } else { "" });
        }
        text.push_str(&blanks);
        check(&text);
        let (json, compact) = (Json::parse(&text).unwrap(), Json::parse(&value).unwrap());
        prop_assert_eq!(json.as_str(), &value);
        prop_assert_eq!(json, compact);
    }

    #[test]
    fn objects_that_repeat_names_are_read_as_dicts(names in prop::collection::vec("[a-f]{1,2}", 0..60)) {
        let members = names.iter().enumerate().map(|(at, name)| format!(r#""{name}":{{"at":[{at},{{}}]}}"#));
        let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        check(&text);
        check(&format!("[1,{text},2]"));
        let mut known = std::collections::HashSet::new();
        let repeated = names.iter().find(|name| !known.insert(name.as_str()));
        let json = Json::parse(&text).unwrap();
        prop_assert_eq!(json.repeated_name(), repeated.map(String::as_str));
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "[1 2]",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "1 2",
        "tru e",
        "n\null",
        "- 1",
        "1 .5",
        "1. 5",
        "1e 5",
        "1\te5",
        "[1,0 0]",
        "{\"a\": 1 true}",
        "{\"a\": \"b\" \"c\"}",
        "\"\\ n\"",
        "{ \"a\": \"\n\" }",
        "{ \"a",
        "{ \"a\\",
        "tru",
        "nulll",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u12\"",
        "\"\n\"",
        "\"\u{1}\"",
        "[",
        "]",
        "{]",
        "\u{feff}1",
        "NaN",
        "Infinity",
        "'a'",
        "[1]//",
        "[\u{b}1]",
        "[1\u{c}]",
        "\u{a0}1",
    ] {
        assert!(matches!(Json::parse(text), Err(JsonError::Syntax(_))), "{text:?}");
        check(text);
    }
}

#[test]
fn what_could_not_be_passed_on_is_refused() {
    let deep = |depth: usize| format!("{}1{}", "[{\"a\":".repeat(depth / 2), "}]".repeat(depth / 2));
    assert!(Json::parse(&deep(100)).is_ok());
    assert!(matches!(Json::parse(&deep(102)), Err(JsonError::TooDeep)));
    assert!(matches!(Json::parse(&format!("{}x", deep(102))), Err(JsonError::Syntax(_))));
    for text in [r#""\ud83d""#, r#""\ude80""#, r#""\ud83d\u0041""#, r#""\ud83dx""#, r#"{"\ud83d\ud83d":1}"#] {
        assert!(matches!(Json::parse(text), Err(JsonError::LoneSurrogate(_))), "{text}");
    }
    assert_eq!(Json::parse(r#""\ud83d\ude80""#).unwrap().root().as_text(), Some("🚀"));
}

#[test]
fn a_part_shares_the_text() {
    let json = Json::parse(" {\"a\": {\"b\" : [1.0 , \"\\u00e9\"]} } ").unwrap();
    assert_eq!(json.as_str(), r#"{"a":{"b":[1.0,"\u00e9"]}}"#);
    let part = json.part(json.root().get("a").unwrap());
    assert_eq!(part.as_str(), r#"{"b":[1.0,"\u00e9"]}"#);
    let list = part.root().get("b").and_then(Node::as_list).unwrap();
    assert_eq!(list.get(1).and_then(Node::as_text), Some("é"));
    assert_eq!(part.part(list.get(0).unwrap()).as_str(), "1.0");
}
