//! Handlebars: the language, and that it renders as the crate `handlebars` does.

use hookwire_model::{Engine, Escape, Undefined, Webhook};
use serde_json::{Value, json};

use crate::support::{body, data, webhook};

fn plain() -> Webhook {
    let mut webhook = webhook(Engine::Handlebars);
    webhook.content_type = "text/plain".into();
    webhook
}

fn sample() -> Value {
    json!({
        "name": "Zürich <HQ> & \"Lab\"", "n": 7, "zero": 0, "one": 1.0, "yes": true, "no": false, "nil": null,
        "empty": "", "none": [], "list": ["b", "a", "c"], "nested": {"b": {"c": [1, {"d": "deep"}]}},
        "tags": [{"slug": "prod", "n": 1}, {"slug": "edge", "n": 2}], "map": {"x": 1, "y": 2},
        "big": 18446744073709551615u64, "with space": "sp", "key": "x"
    })
}

/// Templates that both know, over the same data.
const SAME: &[&str] = &[
    "",
    "plain text\n",
    "{{data.name}}",
    "{{{data.name}}} {{&data.name}}",
    "{{data.n}} {{data.one}} {{data.yes}} {{data.no}} [{{data.nil}}] {{data.big}}",
    "{{data.nested.b.c.[1].d}} {{data/nested/b/c/0}} {{data.[with space]}}",
    "{{this.data.n}} {{./data.n}} {{@root.data.n}}",
    "{{data.unknown}}|{{unknown.at.all}}|{{data.nil.x}}",
    "{{#if data.yes}}a{{else}}b{{/if}}{{#if data.zero}}a{{else}}b{{/if}}{{#if data.zero includeZero=true}}a{{/if}}",
    "{{#if data.empty}}a{{else if data.none}}b{{else if data.n}}c{{else}}d{{/if}}",
    "{{#unless data.no}}a{{else}}b{{/unless}}",
    "{{#each data.list}}{{@index}}:{{this}}{{#unless @last}}, {{/unless}}{{/each}}",
    "{{#each data.list}}{{#if @first}}<{{/if}}{{.}}{{#if @last}}>{{/if}}{{/each}}",
    "{{#each data.none}}x{{else}}nothing{{/each}}{{#each data.unknown}}x{{else}}nothing{{/each}}",
    "{{#each data.map}}{{@key}}={{this}};{{/each}}",
    "{{#each data.tags}}{{slug}}{{../data.n}}{{@root.data.n}} {{/each}}",
    "{{#each data.tags as |tag i|}}{{i}}{{tag.slug}}{{tag.n}} {{/each}}",
    "{{#each data.map as |value name|}}{{name}}{{value}} {{/each}}",
    "{{#each data.tags}}{{#each ../data.list}}{{@../index}}{{@index}}{{../slug}}{{this}} {{/each}}{{/each}}",
    "{{#with data.nested}}{{b.c.[0]}}{{../data.n}}{{/with}}{{#with data.nil}}x{{else}}y{{/with}}",
    "{{#with data.nested as |deep|}}{{deep.b.c.[0]}}{{/with}}",
    "{{#each data.list}}{{#with @root.data.nested}}{{@index}}{{/with}}{{/each}}",
    "{{lookup data.map data.key}} {{lookup data.list 1}} {{lookup data.map \"y\"}}",
    "{{len data.list}} {{len data.map}} {{len data.key}}",
    "{{#if (eq data.n 7)}}a{{/if}}{{#if (and data.yes (not data.no))}}b{{/if}}{{#if (or data.no data.n)}}c{{/if}}",
    "{{#if (gt data.n 3)}}a{{/if}}{{#if (lte data.n 7)}}b{{/if}}{{#if (lt data.n 3)}}c{{/if}}{{#if (ne data.n 1)}}d{{/if}}",
    "{{#eq data.n 7}}same{{else}}other{{/eq}}{{#gt data.n 9}}x{{else}}y{{/gt}}",
    "{{gt 53 \"35\"}} {{lt \"-1.00\" 0}} {{eq \"a\" \"a\"}} {{gt true false}} {{eq [1, 2] [1, 2]}}",
    r"\{{data.n}} \\{{data.n}} a\b",
    "a{{! comment }}b{{!-- {{data.n}} --}}c",
    "{{{{raw}}}}{{data.n}}{{{{/raw}}}}",
    "a  {{~data.n~}}  b",
    "{{#each data.list}}\n  {{this}}\n{{/each}}\nend\n",
    "  {{#if data.yes}}\n    yes\n  {{else}}\n    no\n  {{/if}}\nend",
    "{{#if data.yes~}}\n a \n{{~/if}}",
    "{{^}}",
    "{{#if data.yes}}a",
    "{{/if}}",
    "{{data.}}",
    "{{data.list",
];

#[test]
fn it_renders_as_the_crate_does() {
    let context = data(sample());
    let registry = {
        let mut registry = handlebars::Handlebars::new();
        registry.register_escape_fn(handlebars::no_escape);
        registry
    };
    let mut plain = plain();
    plain.undefined = Undefined::Lenient;
    for template in SAME {
        let theirs = registry.render_template(template, context.root());
        let ours = body(&plain, template, &context);
        match (theirs, ours) {
            // An empty template is no template.
            (Ok(_), Ok(_)) if template.is_empty() => {}
            (Ok(theirs), Ok(ours)) => assert_eq!(ours, theirs, "{template}"),
            (Err(_), Err(_)) => {}
            (theirs, ours) => panic!("{template}\ntheirs: {theirs:?}\nours: {ours:?}"),
        }
    }
}

#[test]
fn it_differs_from_the_crate_by_intent() {
    let context = data(sample());
    let mut plain = plain();
    plain.undefined = Undefined::Lenient;
    for (template, expected, _why) in [
        (
            "{{data.map}} {{data.list}}",
            r#"{"x":1,"y":2} ["b","a","c"]"#,
            "they print `[object]` and `[b, a, c]`",
        ),
        ("{{data.list.name}}", "", "a name on a list is an error there, also where nothing is strict"),
        ("{{eq data.one 1}}", "true", "they compare the text of numbers"),
        ("{{len data.name}}", "19", "they count bytes"),
        (
            "{{#each data.list}}{{../../x}}{{/each}}",
            "",
            "beyond the outermost block they stay where they are",
        ),
    ] {
        assert_eq!(body(&plain, template, &context).unwrap(), expected, "{template}");
    }
}

#[test]
fn helpers() {
    let context = data(sample());
    let plain = plain();
    let rendered: Vec<String> = [
        "{{json data.name}} {{json data.one}} {{json data.tags}}",
        "{{default data.nil \"none\"}} {{default data.unknown data.nil \"x\"}} {{default data.zero 5}}",
        "{{join data.list}} {{join data.list \"+\"}} {{join data.tags \",\" key=\"slug\"}}",
        "{{concat data.n \"-\" data.key}} {{upper data.key}} {{lower \"ÄB\"}} {{urlencode \"a b&ü\"}}",
        "{{lookup data.nested \"b\" \"c\" 1 \"d\"}}",
        "{{#if (eq (len data.list) 3)}}three{{/if}}",
    ]
    .map(|template| format!("{template}\n  {}", body(&plain, template, &context).unwrap()))
    .to_vec();
    insta::assert_snapshot!(rendered.join("\n"));
}

#[test]
fn errors_name_place_and_remedy() {
    let context = data(sample());
    let plain = plain();
    let messages: Vec<String> = [
        "{{usernam}}",
        "a\n  {{data.nmae}}",
        "{{data.nil.name}}",
        "{{data.list.name}} {{data.list.[9]}}",
        "{{data.list.[9]}}",
        "{{request.user}}",
        "{{username.x}}",
        "{{#each data.tags}}{{slugg}}{{/each}}",
        "{{#with data.nested}}{{b.x.y}}{{/with}}",
        "{{lookup data.map \"z\"}}",
        "{{len data.nope}} {{join data.n}}",
        "{{join data.tags key=\"nope\"}}",
        "{{join data.n}}",
        "{{#each data.n}}{{/each}}",
        "{{jsn data.n}}",
        "{{nothing data.n}} {{#evry data.list}}{{/evry}}",
        "{{each data.list}}",
        "{{json}} {{json data.n data.n}} {{eq data.n}}",
        "{{#if}}{{/if}} {{#each data.list key=1}}{{/each}}",
        "{{> partial}}",
        "{{#*inline \"x\"}}{{/inline}}",
        "{{#if data.n}}x{{/each}}",
        "text {{",
        "{{data.n}",
        "{{#if data.n}}",
        "{{log data.n}}",
    ]
    .map(|template| format!("{template:?}\n  {}", body(&plain, template, &context).expect_err(template)))
    .to_vec();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn asking_for_what_is_unknown_is_no_error() {
    let context = data(sample());
    for template in [
        "{{#if data.nope}}x{{else}}-{{/if}}",
        "{{#with data.nope.x}}x{{else}}-{{/with}}{{#with data.nil}}x{{/with}}",
        "{{#each data.nope}}x{{else}}-{{/each}}{{#each data.nil.x}}x{{/each}}",
        "{{#if (eq data.nope 1)}}x{{else}}-{{/if}}",
        "{{#if (gt data.nil data.nope)}}x{{else}}-{{/if}}",
        "{{#if (lookup data.nope \"x\")}}x{{else}}-{{/if}}",
        "{{default data.nope \"-\"}}",
        "{{default (lookup data.nil \"x\") \"-\"}}",
        "{{#if (and data.nope usernam)}}x{{else}}-{{/if}}",
    ] {
        assert_eq!(body(&plain(), template, &context).as_deref(), Ok("-"), "{template}");
    }
}

#[test]
fn escaping_off_prints_values_as_they_are() {
    let mut webhook = webhook(Engine::Handlebars);
    webhook.escape = Escape::None;
    let rendered = body(&webhook, "{\"a\": \"{{data.name}}\", {{data.list}}", &data(sample())).unwrap();
    assert_eq!(rendered, "{\"a\": \"Zürich <HQ> & \"Lab\"\", [\"b\",\"a\",\"c\"]");
}
