//! Plain templates, the short way: from the event's documents straight into the sink.
//!
//! Invariant: either all of the text is in the sink, or nothing, and then the engine has to render it.

use std::borrow::Cow;

use hookwire_jinja::{Plain, Template, Written, python_repr};
use hookwire_json::{Content, push_node, push_string};
use hookwire_model::{Member, TemplateContext};

use crate::place::{Place, Print, Sink};

/// Renders into an empty sink, and tells whether it did.
pub(super) fn render(template: &Template, place: Place, context: &TemplateContext, sink: &mut Sink) -> bool {
    let root = |name: &str| {
        context.member(name).map(|member| match member {
            Member::Text(Some(text)) => Plain::Text(text),
            Member::Text(None) => Plain::None,
            Member::Document(json) => Plain::Node(json.root()),
        })
    };
    let rendered = template.render_plain(root, |written| {
        // Whatever the sink refuses, the engine is refused too, and it knows the place in the template.
        match written {
            Written::Literal(text) => sink.literal(text).ok(),
            Written::Value(value) => {
                let value = Printed::of(value, place)?;
                if place == Place::Text { sink.value_raw(&value).ok() } else { sink.value(&value).ok() }
            }
        }
    });
    if rendered.is_none() {
        sink.clear();
    }
    rendered.is_some()
}

/// A value as Python prints it, and as JSON.
enum Printed<'a> {
    Text(&'a str),
    /// Number, truth value or `None`.
    Scalar {
        text: Cow<'a, str>,
        json: Cow<'a, str>,
    },
    /// A list or dict; in a JSON document it prints as JSON.
    Container(hookwire_json::Node<'a>, Place),
}

impl<'a> Printed<'a> {
    /// `None` of what JSON cannot say.
    fn of(value: Plain<'a>, place: Place) -> Option<Self> {
        let scalar = |text: &'a str, json: &'a str| Printed::Scalar { text: text.into(), json: json.into() };
        let node = match value {
            Plain::None => return Some(scalar("None", "null")),
            Plain::Text(text) => return Some(Printed::Text(text)),
            Plain::Node(node) => node,
        };
        Some(match node.content() {
            Content::Null => scalar("None", "null"),
            Content::Bool(true) => scalar("True", "true"),
            Content::Bool(false) => scalar("False", "false"),
            Content::Text(text) => Printed::Text(text),
            // As short as this, Python prints it as it is spelled.
            Content::Number(digits)
                if digits.len() < 18 && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                scalar(digits, digits)
            }
            Content::Number(_) => {
                let text = python_repr(node);
                if text.ends_with("inf") {
                    return None;
                }
                Printed::Scalar { json: text.clone().into(), text: text.into() }
            }
            Content::List(_) | Content::Object(_) => Printed::Container(node, place),
        })
    }
}

impl Print for Printed<'_> {
    fn as_text(&self) -> Option<&str> {
        match self {
            Printed::Text(text) => Some(text),
            _ => None,
        }
    }

    fn print(&self, out: &mut String) {
        match self {
            Printed::Text(text) => out.push_str(text),
            Printed::Scalar { text, .. } => out.push_str(text),
            Printed::Container(node, Place::Json) => push_node(out, *node),
            Printed::Container(node, _) => out.push_str(&python_repr(*node)),
        }
    }

    fn print_json(&self, out: &mut String) {
        match self {
            Printed::Text(text) => push_string(out, text),
            Printed::Scalar { json, .. } => out.push_str(json),
            Printed::Container(node, _) => push_node(out, *node),
        }
    }

    fn is_container(&self) -> bool {
        matches!(self, Printed::Container(..))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hookwire_model::{Event, EventDefaults, EventId, Timestamp};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::{Jinja, tags};
    use super::*;
    use crate::limits::Limits;

    const PLACES: [Place; 5] = [Place::Json, Place::Text, Place::Form, Place::Url, Place::Headers];

    fn context(data: &Value, username: Option<&str>) -> TemplateContext {
        let text =
            json!({"id": "e", "event": "created", "object_type": "a.b", "data": data, "username": username});
        let mut new_id = || EventId::new("e").unwrap();
        let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
        let event = Event::parse(&text.to_string(), &mut defaults).unwrap();
        TemplateContext::new(Arc::new(event), &Default::default())
    }

    fn compile(template: &str, place: Place, strict: bool) -> Option<Jinja> {
        Jinja::compile(template, &tags::scan(template), place, strict, &Limits::default()).ok()
    }

    fn sink(place: Place) -> Sink {
        Sink::new(place, Limits::default().output_bytes, 0)
    }

    /// What the short way gives, which the engine must give as well.
    fn short(template: &str, place: Place, strict: bool, context: &TemplateContext) -> Option<String> {
        let jinja = compile(template, place, strict)?;
        let mut short = sink(place);
        let went = render(&jinja.template, place, context, &mut short);
        if !went {
            assert_eq!((short.wrote_escaped(), short.into_text().as_str()), (false, ""), "{template}");
            return None;
        }
        let mut long = sink(place);
        jinja.render_by_engine(context, &mut long).unwrap_or_else(|fault| panic!("{template}: {fault:?}"));
        let text = short.into_text();
        assert_eq!(text, long.into_text(), "{template} in {place:?} of {:?}", context.data());
        Some(text)
    }

    #[test]
    fn what_goes_the_short_way() {
        let huge: Value = serde_json::from_str("1e400").unwrap();
        let data = json!({
            "name": "a\"b", "none": null, "yes": true, "int": 7, "float": 1.50, "large": 12345678901234567890_u64,
            "tags": [{"slug": "x"}, {"slug": "y"}], "empty": [], "zero": -0.0, "nested": {"a": [1, "b"]},
            "items": 1, "huge": huge,
        });
        let context = context(&data, None);
        for (template, expected) in [
            (r#"{"n": "{{ data.name }}", "u": {{ username }}}"#, Some(r#"{"n": "a\"b", "u": null}"#)),
            (r#"[{{ data.yes }}, "{{ data.yes }}", {{ data.float }}]"#, Some(r#"[true, "True", 1.5]"#)),
            (r#"[{{ data.large }}, "{{ data.none }}"]"#, Some(r#"[12345678901234567890, "None"]"#)),
            (r#"[{{ data.nested }}, "{{ data.nested }}"]"#, Some(r#"[{"a":[1,"b"]}, "{\"a\":[1,\"b\"]}"]"#)),
            (
                r#"[{% for t in data.tags %}"{{ t.slug }}"{% if not loop.last %}, {% endif %}{% endfor %}]"#,
                Some(r#"["x", "y"]"#),
            ),
            ("[{% for t in data.empty %}{{ t }}{% else %}1{% endfor %}]", Some("[1]")),
            (
                "[{% for t in data.tags %}{% if loop.first %}{% for t in data.tags %}{{ t.slug }}{% endfor %}{% else %},1{% endif %}{% endfor %}]",
                Some("[\"x\"\"y\",1]"),
            ),
            ("{% if data.zero %}1{% elif data.name %}2{% endif %}", Some("2")),
            // The engine knows what to say about these, or knows more.
            ("{{ data.nmae }}", None),
            ("{{ data.none.name }}", None),
            ("{{ username.name }}", None),
            ("{{ unknown }}", None),
            ("{{ data.huge }}", None),
            ("{{ data.items }}", None),
            ("{{ data.nested.items }}", None),
            ("{{ data.name|upper }}", None),
            ("{{ loop.index }}", None),
            ("{% if loop.first %}1{% endif %}", None),
            ("{% for c in data.name %}{{ c }}{% endfor %}", None),
            ("{% for n in data.nested %}{{ n }}{% endfor %}", None),
            ("{% for t in data.tags if t.slug %}{{ t.slug }}{% endfor %}", None),
            ("{% set x = 1 %}{{ x }}", None),
            ("\"\\{{ data.name }}\"", None),
        ] {
            assert_eq!(short(template, Place::Json, true, &context).as_deref(), expected, "{template}");
        }
        let lists = json!({"a": vec![json!([1, 2, 3]); 30_000]});
        let endless = "{% for x in data.a %}{% for y in x %}{{ y }}{% endfor %}{% endfor %}";
        assert_eq!(short(endless, Place::Text, true, &self::context(&lists, None)), None, "it takes long");
        assert_eq!(
            short("{{ data.float }}{{ data.nested }}", Place::Text, true, &context).unwrap(),
            "1.5{'a': [1, 'b']}"
        );
        assert_eq!(short("a={{ data.name }}", Place::Form, true, &context).unwrap(), "a=a%22b");
    }

    /// Objects have the names that templates ask for, mostly.
    fn any_data() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            prop::sample::select(vec![
                "0",
                "-0",
                "0.0",
                "0e5",
                "10",
                "1.50",
                "1e400",
                "-1e400",
                "1E2",
                "123456789012345678901"
            ])
            .prop_map(|number| serde_json::from_str(number).unwrap()),
            "[a\"\\\\\n é&\u{fdd0}\u{fdd1}]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 60, 4, |inner| {
            let object = (inner.clone(), inner.clone(), prop::option::of(inner.clone()));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                object.prop_map(|(a, b, items)| match items {
                    Some(items) => json!({"a": a, "b": b, "items": items}),
                    None => json!({"b": b, "a": a}),
                }),
            ]
        })
    }

    fn any_template() -> impl Strategy<Value = String> {
        let usual = vec![
            "data.a",
            "data.b",
            "x",
            "x.a",
            "y",
            "y.b",
            "data.list",
            "username",
            "event",
            "data.a.b",
            "data",
        ];
        let rare =
            vec!["data.items", "x.items", "data.c", "loop.index", "snapshots", "data.a|length", "range", "a"];
        let path = prop_oneof![30 => prop::sample::select(usual), 1 => prop::sample::select(rare)];
        let asked = prop_oneof![
            3 => path.clone().prop_map(str::to_owned),
            1 => path.clone().prop_map(|path| format!("not {path}")),
            2 => prop::sample::select(vec!["loop.first", "loop.last", "not loop.last"]).prop_map(str::to_owned),
        ];
        let lists = prop_oneof![
            4 => Just("data.list"),
            1 => prop::sample::select(vec!["x", "data.a", "x.a", "data", "event"]),
        ];
        let leaf = prop_oneof![
            1 => "[\"a:,\\[ \n]{0,5}".boxed(),
            2 => path.prop_map(|path| format!("{{{{ {path} }}}}")).boxed(),
        ];
        leaf.prop_recursive(4, 12, 3, move |inner| {
            let inner = prop::collection::vec(inner, 0..3).prop_map(|pieces| pieces.concat());
            prop_oneof![
                inner.clone(),
                (lists.clone(), inner.clone(), "[xy]", inner.clone()).prop_map(
                    |(path, body, name, otherwise)| {
                        format!("{{% for {name} in {path} %}}{body}{{% else %}}{otherwise}{{% endfor %}}")
                    }
                ),
                (asked.clone(), inner.clone(), inner).prop_map(|(asked, body, otherwise)| {
                    format!("{{% if {asked} %}}{body}{{% else %}}{otherwise}{{% endif %}}")
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn the_engine_gives_the_same(
            (a, b) in (any_data(), any_data()),
            list in prop::collection::vec(any_data(), 0..4),
            template in any_template(),
            strict: bool,
            username in prop::option::of("[a\"]{0,2}"),
        ) {
            let context = context(&json!({"a": a, "b": b, "list": list}), username.as_deref());
            for place in PLACES {
                short(&template, place, strict, &context);
            }
        }
    }
}
