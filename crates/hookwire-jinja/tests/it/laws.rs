//! Laws that hold for every template and every document.

use hookwire_jinja::{Options, Template, json_dumps, python_repr, root, view};
use hookwire_json::Json as Document;
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::{LENIENT, render};

fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(Json::from),
        "-?[1-9][0-9]{0,50}".prop_map(|digits| serde_json::from_str(&digits).unwrap()),
    ]
}

fn document() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        number(),
        any::<String>().prop_map(Json::from)
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Pieces from which templates and near-templates are made.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-",
        "+",
        " ",
        "\n",
        "\r\n",
        "x",
        "data",
        "1",
        "0.5",
        "'a'",
        "\"",
        "'",
        "\\",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        ".",
        "|",
        "~",
        "*",
        "**",
        "/",
        "//",
        "%",
        "==",
        "<",
        "=",
        "not",
        "in",
        "is",
        "if",
        "else",
        "endif",
        "for",
        "endfor",
        "set",
        "endset",
        "macro",
        "m",
        "endmacro",
        "call",
        "endcall",
        "filter",
        "endfilter",
        "block",
        "endblock",
        "with",
        "endwith",
        "raw",
        "endraw",
        "loop",
        "range",
        "upper",
        "map",
        "join",
        "tojson",
        "items",
        "append",
        "format",
        "defined",
        "none",
        "é",
        "\u{2028}",
        "🚀",
        "e",
        "namespace",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Printing through a template is printing the document.
    #[test]
    fn printing_is_repr(document in document()) {
        let context = root([("x", view(&document))]);
        let template = Template::compile("{{ [x] }}", &Options::default()).unwrap();
        prop_assert_eq!(template.render(&context).unwrap(), format!("[{}]", python_repr(Document::from(&document).root())));
    }

    /// What `json_dumps` and `tojson` write reads back as the same document.
    #[test]
    fn json_reads_back(document in document()) {
        fn by_value(json: &Json) -> String {
            // Numbers as Python sees them, so that `1e2` and `100.0` are the same.
            python_repr(Document::from(json).root())
        }
        let read: Json = serde_json::from_str(&json_dumps(Document::from(&document).root())).unwrap();
        prop_assert_eq!(by_value(&read), by_value(&document));
        prop_assert!(json_dumps(Document::from(&document).root()).is_ascii());
        let context = root([("x", view(&document))]);
        let template = Template::compile("{{ x|tojson }}", &Options::default()).unwrap();
        let text = template.render(&context).unwrap();
        let read: Json = serde_json::from_str(&text).unwrap();
        let same = Template::compile("{{ x == y }}", &Options::default()).unwrap();
        let context = root([("x", view(document)), ("y", view(read))]);
        prop_assert_eq!(same.render(&context).unwrap(), "True");
    }

    /// A copy that a template may change looks as the view does.
    #[test]
    fn copies_look_the_same(document in document()) {
        let context = root([("x", view(document))]);
        let viewed = Template::compile("{{ [x] }}", &Options::default()).unwrap();
        let copied = Template::compile("{% if 0 %}{{ x.append(1) }}{% endif %}{{ [x] }}", &Options::default()).unwrap();
        prop_assert_eq!(viewed.render(&context).unwrap(), copied.render(&context).unwrap());
    }

    /// Text without tags is itself, but for line ends.
    #[test]
    fn text_is_itself(text in "[^{}%#\r]*") {
        let expected = text.strip_suffix('\n').unwrap_or(&text);
        let rendered = render(&text, &Json::Object(Default::default()), &LENIENT);
        prop_assert_eq!(rendered.as_deref(), Ok(expected));
    }

    /// No text, however odd, makes compiling or rendering panic.
    #[test]
    fn nothing_panics(template in soup(), wrapped in any::<bool>()) {
        let template = if wrapped { format!("{{{{ {template} }}}}") } else { template };
        let json = serde_json::json!({"data": {"items": [1, "a", null]}, "x": "y"});
        let _ = render(&template, &json, &LENIENT);
        let _ = render(&template, &json, &Options::default());
    }

    /// Nor does any text at all.
    #[test]
    fn nothing_panics_on_any_text(template in any::<String>()) {
        let _ = render(&template, &Json::Object(Default::default()), &LENIENT);
    }
}
