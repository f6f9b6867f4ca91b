//! Escaping follows the place, in both languages.

use hookwire_model::{Engine, Escape, Undefined, Webhook};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{body, context, data, lines, render, webhook};

const ENGINES: [Engine; 2] = [Engine::Handlebars, Engine::Jinja];

/// NetBox's documented example for Slack, and its twin.
const SLACK_JINJA: &str = r#"{"text": "IP address {{ data['address'] }} was created by {{ username }}!"}"#;
const SLACK_HANDLEBARS: &str = r#"{"text": "IP address {{data.address}} was created by {{username}}!"}"#;

#[test]
fn the_slack_example_stays_json_whatever_the_names_hold() {
    for (address, username) in [
        ("10.0.0.1/24", "admin"),
        (r#"10.0.0.1" "evil": ""#, r"back\slash"),
        ("line\nend\r\t\u{0}\u{1f}\u{2028}", "Zoë 🚀 </script>"),
        ("{{ data }} {% if %}", "\u{fdd0}0x\u{fdd1}\u{fdd2}"),
    ] {
        let context = context(json!({"data": {"address": address}, "username": username}));
        for (engine, template) in ENGINES.into_iter().zip([SLACK_HANDLEBARS, SLACK_JINJA]) {
            let text = body(&webhook(engine), template, &context).unwrap();
            let parsed: Value = serde_json::from_str(&text).unwrap();
            let expected = format!("IP address {address} was created by {username}!");
            assert_eq!(parsed, json!({"text": expected}), "{engine}: {text}");
        }
    }
}

/// A template in each language.
struct Case {
    name: &'static str,
    handlebars: &'static str,
    jinja: &'static str,
}

const JSON_CASES: &[Case] = &[
    Case { name: "string inside quotes", handlebars: r#""{{data.s}}""#, jinja: r#""{{ data.s }}""# },
    Case { name: "string outside quotes", handlebars: "{{data.s}}", jinja: "{{ data.s }}" },
    Case {
        name: "numbers and truth outside quotes",
        handlebars: "[{{data.n}}, {{data.f}}, {{data.big}}, {{data.yes}}, {{data.nil}}]",
        jinja: "[{{ data.n }}, {{ data.f }}, {{ data.big }}, {{ data.yes }}, {{ data.nil }}]",
    },
    Case {
        name: "numbers and truth inside quotes",
        handlebars: r#""{{data.n}} {{data.f}} {{data.big}} {{data.yes}} {{data.nil}}""#,
        jinja: r#""{{ data.n }} {{ data.f }} {{ data.big }} {{ data.yes }} {{ data.nil }}""#,
    },
    Case {
        name: "list and object outside quotes",
        handlebars: "[{{data.list}}, {{data.map}}]",
        jinja: "[{{ data.list }}, {{ data.map }}]",
    },
    Case {
        name: "list and object inside quotes",
        handlebars: r#""{{data.list}} {{data.map}}""#,
        jinja: r#""{{ data.list }} {{ data.map }}""#,
    },
    Case { name: "as JSON", handlebars: "[{{json data.s}}]", jinja: "[{{ data.s|tojson }}]" },
    Case { name: "as it is", handlebars: "{{{data.fragment}}}", jinja: "{{ data.fragment|safe }}" },
    Case { name: "a member name", handlebars: r#"{"{{data.s}}": 1}"#, jinja: r#"{"{{ data.s }}": 1}"# },
    Case {
        name: "in a loop",
        handlebars: r#"[{{#each data.list}}{"{{@index}}": {{this}}}{{#unless @last}}, {{/unless}}{{/each}}]"#,
        jinja: r#"[{% for i in data.list %}{"{{ loop.index0 }}": {{ i }}}{% if not loop.last %}, {% endif %}{% endfor %}]"#,
    },
    Case {
        name: "after an escaped quote",
        handlebars: r#"{"a": "x\"{{data.s}}", "b": {{data.s}}}"#,
        jinja: r#"{"a": "x\"{{ data.s }}", "b": {{ data.s }}}"#,
    },
    Case {
        name: "put together",
        handlebars: r#"{{concat data.s "-" data.n}}"#,
        jinja: r#"{{ data.s ~ "-" ~ data.n }}"#,
    },
    Case {
        name: "nothing to print",
        handlebars: r#"[{{default data.nope null}}, "{{default data.nope ""}}"]"#,
        jinja: r#"[{{ "x" if data.no }}, "{{ "x" if data.no }}"]"#,
    },
];

fn values() -> Value {
    json!({
        "s": "a \"b\"\\\n", "n": 7, "f": 1.0, "big": 18446744073709551615u64, "yes": true, "no": false, "nil": null,
        "list": ["x\"", 1], "map": {"k": "v\"", "n": null}, "fragment": "{\"raw\": [1]}"
    })
}

#[test]
fn values_in_json() {
    let context = data(values());
    let mut shown = Vec::new();
    for case in JSON_CASES {
        for (engine, template) in ENGINES.into_iter().zip([case.handlebars, case.jinja]) {
            let text = body(&webhook(engine), template, &context)
                .unwrap_or_else(|error| panic!("{}, {engine}: {error}", case.name));
            serde_json::from_str::<Value>(&text)
                .unwrap_or_else(|error| panic!("{}, {engine}: {error}: {text}", case.name));
            shown.push(format!("{}\n  {engine}: {text}", case.name));
        }
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn blocks_and_macros_compose() {
    let context = data(values());
    let jinja = webhook(Engine::Jinja);
    for (template, expected) in [
        (
            r#"{% macro pair(k, v) %}{"{{ k }}": {{ v }}}{% endmacro %}[{{ pair("a\"", data.s) }}]"#,
            json!([{"a\"": "a \"b\"\\\n"}]),
        ),
        (
            r#"{% set part %}["{{ data.s }}", {{ data.n }}]{% endset %}{"whole": {{ part }}}"#,
            json!({"whole": ["a \"b\"\\\n", 7]}),
        ),
        (r#"["{% filter upper %}{{ data.s }}{% endfilter %}"]"#, json!(["A \"B\"\\\n"])),
        (
            r#"{% macro wrap() %}[{{ caller() }}]{% endmacro %}{% call wrap() %}{{ data.s }}{% endcall %}"#,
            json!(["a \"b\"\\\n"]),
        ),
    ] {
        let text = body(&jinja, template, &context).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected, "{template}: {text}");
    }
}

#[test]
fn values_in_a_form() {
    let context = data(json!({"s": "a b&c=d+é\n", "n": 1, "list": [1, "x"]}));
    for (engine, template) in [
        (Engine::Handlebars, "s={{data.s}}&n={{data.n}}&raw={{{data.n}}}&list={{data.list}}"),
        (Engine::Jinja, "s={{ data.s }}&n={{ data.n }}&raw={{ data.n|safe }}&list={{ data.list }}"),
    ] {
        let mut webhook = webhook(engine);
        webhook.content_type = "application/x-www-form-urlencoded".into();
        let list = match engine {
            Engine::Handlebars => "%5B1%2C%22x%22%5D",
            Engine::Jinja => "%5B1%2C%20%27x%27%5D",
        };
        assert_eq!(
            body(&webhook, template, &context).unwrap(),
            format!("s=a%20b%26c%3Dd%2B%C3%A9%0A&n=1&raw=1&list={list}")
        );
    }
}

#[test]
fn plain_text_is_not_escaped() {
    let context = data(json!({"s": "<\"&'\n"}));
    for (engine, template) in ENGINES.into_iter().zip(["{{data.s}}", "{{ data.s }}"]) {
        for (content_type, escape) in [
            ("text/plain", Escape::Auto),
            ("application/xml", Escape::Auto),
            ("application/json", Escape::None),
        ] {
            let mut webhook = webhook(engine);
            webhook.content_type = content_type.into();
            webhook.escape = escape;
            assert_eq!(body(&webhook, template, &context).unwrap(), "<\"&'\n", "{engine} {content_type}");
        }
    }
}

#[test]
fn a_body_that_is_not_json_is_an_error() {
    let context = data(values());
    let mut shown = Vec::new();
    for (engine, template) in [
        (Engine::Handlebars, "{\"a\": {{data.s}}"),
        (Engine::Handlebars, "{\n  \"a\": {{{data.s}}}\n}"),
        (Engine::Handlebars, "{\"a\": \"\\{{data.s}}\"}"),
        (Engine::Handlebars, r#"{"a": "\\\\{{data.s}}"}"#),
        (Engine::Handlebars, "not json"),
        (Engine::Handlebars, "{{#if data.no}}x{{/if}}"),
        (Engine::Jinja, "[{% for i in data.list %}{{ i }}{{ ', ' if not loop.last }}{% endfor %}]"),
        (Engine::Jinja, "{\"a\": \"{{ data.s|tojson }}\"}"),
        (Engine::Jinja, r#"{"a": "\{{ data.s }}"}"#),
    ] {
        let result = body(&webhook(engine), template, &context);
        shown.push(format!("{engine} {template:?}\n  {}", result.unwrap_or_else(|error| error)));
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn strict_and_lenient() {
    let context = data(values());
    let mut shown = Vec::new();
    for (engine, template) in [
        (Engine::Handlebars, "[{{data.nope}}, \"{{data.nope}}\", {{data.nil.x}}]"),
        (Engine::Jinja, "[{{ data.nope }}, \"{{ data.nope }}\"]"),
        (Engine::Jinja, "{{ usernam }}"),
        (Engine::Jinja, "{{ data.lisst }}"),
        (Engine::Jinja, "{{ data['nope'] }}"),
        (Engine::Jinja, "{{ data.nope.x }}"),
        (Engine::Jinja, "{% if data.nope %}1{% else %}2{% endif %}"),
        (Engine::Jinja, "{{ data.nope|default(3) }}"),
    ] {
        for undefined in [Undefined::Strict, Undefined::Lenient] {
            let webhook = Webhook { undefined, ..webhook(engine) };
            let result = body(&webhook, template, &context);
            shown
                .push(format!("{engine} {undefined} {template}\n  {}", result.unwrap_or_else(|error| error)));
        }
    }
    insta::assert_snapshot!(shown.join("\n"));
}

/// Any text, with what is special in JSON, in URLs, in headers and to our own marks more often than chance
/// would have it.
fn text() -> impl Strategy<Value = String> {
    let special = proptest::sample::select(
        "\"\\/{}[]:,\n\r\t\u{0}\u{8}\u{1f}\u{7f}\u{85}\u{2028}\u{fdd0}\u{fdd1}\u{fdd2}\u{fdd5}%&=+# .;@?'`<>é漢🚀0123"
            .chars()
            .collect::<Vec<char>>(),
    );
    proptest::collection::vec(prop_oneof![3 => special, 1 => any::<char>()], 0..24)
        .prop_map(|characters| characters.into_iter().collect())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        (-1e15..1e15f64).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((text(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_string_reads_back_from_wherever_it_was_put(s in text(), prefix in "[a-z ]{0,4}") {
        let context = data(json!({"s": s, "list": [s, s]}));
        let expected = json!({
            "outside": s, "inside": s, "both": format!("{prefix}{s}{s}x\"{s}"), &s: 1,
            "nested": [{"a": [s, s]}], "json": s,
        });
        let handlebars = format!(
            r#"{{"outside": {{{{data.s}}}}, "inside": "{{{{data.s}}}}",
            "both": "{prefix}{{{{data.s}}}}{{{{data.s}}}}x\"{{{{data.s}}}}", "{{{{data.s}}}}": 1,
            "nested": [{{"a": [{{{{#each data.list}}}}"{{{{this}}}}"{{{{#unless @last}}}},{{{{/unless}}}}{{{{/each}}}}]}}],
            "json": {{{{json data.s}}}} }}"#
        );
        let jinja = format!(
            r#"{{% macro m(x) %}}"{{{{ x }}}}"{{% endmacro %}}{{"outside": {{{{ data.s }}}}, "inside": "{{{{ data.s }}}}",
            "both": "{prefix}{{{{ data.s }}}}{{{{ data.s }}}}x\"{{{{ data.s }}}}", "{{{{ data.s }}}}": 1,
            "nested": [{{"a": [{{% for x in data.list %}}{{{{ m(x) }}}}{{% if not loop.last %}},{{% endif %}}{{% endfor %}}]}}],
            "json": {{{{ data.s|tojson }}}} }}"#
        );
        for (engine, template) in ENGINES.into_iter().zip([handlebars, jinja]) {
            let text = body(&webhook(engine), &template, &context).map_err(TestCaseError::fail)?;
            let parsed: Value = serde_json::from_str(&text)
                .map_err(|error| TestCaseError::fail(format!("{engine}: {error}: {text}")))?;
            prop_assert_eq!(&parsed, &expected, "{}: {}", engine, text);
        }
    }

    #[test]
    fn any_value_is_json_outside_of_quotes_and_a_string_inside(v in value()) {
        let context = data(json!({"v": v}));
        let v = &context.data().root().to_value()["v"];
        for (engine, template) in ENGINES.into_iter().zip(["[{{data.v}}, \"{{data.v}}\"]", "[{{ data.v }}, \"{{ data.v }}\"]"]) {
            let text = body(&webhook(engine), template, &context).map_err(TestCaseError::fail)?;
            let parsed: Value = serde_json::from_str(&text)
                .map_err(|error| TestCaseError::fail(format!("{engine}: {error}: {text}")))?;
            if !v.is_f64() {
                prop_assert_eq!(&parsed[0], v, "{}: {}", engine, text);
            }
            let inside = parsed[1].as_str().expect("it stands between quotes");
            if v.is_array() || v.is_object() {
                prop_assert_eq!(&serde_json::from_str::<Value>(inside).unwrap(), v);
            } else if let Some(v) = v.as_str() {
                prop_assert_eq!(inside, v);
            }
        }
    }

    #[test]
    fn a_value_never_adds_a_header_line(s in text()) {
        let context = data(json!({"s": s}));
        for (engine, value) in ENGINES.into_iter().zip(["{{data.s}}", "{{ data.s }}"]) {
            let mut webhook = webhook(engine);
            webhook.additional_headers = format!("X-A: <{value}>\nX-B: 2");
            match render(&webhook, &context) {
                Err(errors) => prop_assert_eq!(errors.len(), 1, "{}", lines(&errors)),
                Ok(rendered) => {
                    let names: Vec<&str> = rendered.headers.iter().map(|(name, _)| name.as_str()).collect();
                    prop_assert_eq!(names, ["X-A", "X-B"]);
                    let latin1: Vec<u8> = format!("<{s}>").chars().map(|c| u8::try_from(c).unwrap()).collect();
                    prop_assert_eq!(&rendered.headers[0].1[..], &latin1[..]);
                }
            }
        }
    }

    #[test]
    fn a_value_stays_in_its_place_of_a_url(s in text()) {
        let context = data(json!({"s": s}));
        for (engine, value) in ENGINES.into_iter().zip(["{{data.s}}", "{{ data.s }}"]) {
            let mut webhook = webhook(engine);
            webhook.url = format!("https://example.org/a/{value}/b?q={value}&r=1#{value}");
            match render(&webhook, &context) {
                Err(_) => prop_assert!(s == "." || s == "..", "{:?}", s),
                Ok(rendered) => {
                    prop_assert!(rendered.literal_host);
                    prop_assert_eq!(rendered.authority.to_string(), "https://example.org:443");
                    let (path, query) = rendered.target.split_once('?').unwrap();
                    let segments: Vec<&str> = path.split('/').collect();
                    prop_assert_eq!((segments.len(), segments[1], segments[3]), (4, "a", "b"), "{}", path);
                    let fields: Vec<&str> = query.split('&').collect();
                    prop_assert_eq!((fields.len(), fields[1]), (2, "r=1"), "{}", query);
                    prop_assert!(rendered.target.bytes().all(|byte| byte.is_ascii_graphic()));
                }
            }
            // In the host a value can only be what a host may hold.
            webhook.url = format!("https://{value}.example.org/");
            if let Ok(rendered) = render(&webhook, &context) {
                prop_assert!(!rendered.literal_host);
                prop_assert_eq!(rendered.authority.host, format!("{}.example.org", s.to_ascii_lowercase()));
            }
        }
    }
}
