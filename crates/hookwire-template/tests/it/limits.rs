//! Whatever the template, it ends: with a result or an error, on a small stack, in a short time.

use hookwire_model::{Engine, Webhook};
use hookwire_template::{Limits, TemplateErrorKind};
use serde_json::{Value, json};

use crate::support::{data, lines, render, render_within, webhook};

/// The kind of error of a body template, on a thread with a stack of 512 KiB.
fn kind(engine: Engine, template: String, data: &Value) -> TemplateErrorKind {
    let context = crate::support::data(data.clone());
    let webhook =
        Webhook { content_type: "text/plain".into(), body_template: Some(template), ..webhook(engine) };
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    let errors = thread
        .spawn(move || render(&webhook, &context).map(|rendered| rendered.body.len()))
        .unwrap()
        .join()
        .expect("rendering does not panic")
        .expect_err("the template goes past a limit");
    errors[0].kind
}

#[test]
fn templates_without_end_are_refused() {
    use TemplateErrorKind::{Limit, Unsupported};
    let many = json!({"list": (0..300).collect::<Vec<u32>>(), "text": "x".repeat(100_000)});
    let nested = |open: &str, close: &str| format!("{}x{}", open.repeat(5_000), close.repeat(5_000));
    for (name, engine, template, expected) in [
        ("a partial that includes itself", Engine::Handlebars, "{{#*inline \"x\"}}{{> x}}{{/inline}}{{> x}}".into(), Unsupported),
        ("nested blocks", Engine::Handlebars, nested("{{#if data.list}}", "{{/if}}"), Limit),
        ("nested blocks that never close", Engine::Handlebars, "{{#if data.list}}".repeat(5_000), Limit),
        ("nested calls", Engine::Handlebars, format!("{{{{json {}data.list{}}}}}", "(not ".repeat(5_000), ")".repeat(5_000)), Limit),
        ("nested calls that never close", Engine::Handlebars, format!("{{{{json {}", "(not ".repeat(5_000)), TemplateErrorKind::Syntax),
        ("nested lists", Engine::Handlebars, format!("{{{{json {}{}}}}}", "[".repeat(5_000), "]".repeat(5_000)), Limit),
        ("chained else", Engine::Handlebars, format!("{{{{#if data.x}}}}{}{{{{/if}}}}", "{{else if data.x}}".repeat(3_000)), Limit),
        ("many tags", Engine::Handlebars, "{{event}}".repeat(5_000), Limit),
        ("a long source", Engine::Handlebars, "x".repeat(200_000), Limit),
        (
            "loops in loops",
            Engine::Handlebars,
            format!("{}{}", "{{#each @root.data.list}}".repeat(6), "{{/each}}".repeat(6)),
            Limit,
        ),
        ("much output", Engine::Handlebars, "{{#each data.list}}{{@root.data.text}}{{/each}}".into(), Limit),
        (
            "much work without output",
            Engine::Handlebars,
            "{{#each data.list}}{{#each @root.data.list}}{{#if (eq @root.data.text (upper @root.data.text))}}{{/if}}{{/each}}{{/each}}".into(),
            Limit,
        ),
        ("nested blocks", Engine::Jinja, nested("{% if data.list %}", "{% endif %}"), Limit),
        ("nested brackets", Engine::Jinja, format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000)), Limit),
        ("a macro that calls itself", Engine::Jinja, "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into(), Limit),
        (
            "loops in loops",
            Engine::Jinja,
            format!("{}{}", "{% for x in data.list %}".repeat(6), "{% endfor %}".repeat(6)),
            Limit,
        ),
        ("much output", Engine::Jinja, "{% for x in data.list %}{{ data.text }}{% endfor %}".into(), Limit),
        ("a long string", Engine::Jinja, "{{ 'x' * 10**9 }}".into(), Limit),
    ] {
        assert_eq!(kind(engine, template, &many), expected, "{name} in {engine}");
    }
}

#[test]
fn the_deepest_templates_that_are_allowed_fit_a_small_stack() {
    let depth = Limits::NESTING_MAX;
    let limits = Limits { nesting: depth, ..Limits::default() };
    let blocks = format!("{}x{}", "{{#if data.x}}".repeat(depth), "{{/if}}".repeat(depth));
    let calls = format!("{{{{json {}data.x{}}}}}", "(not ".repeat(depth), ")".repeat(depth));
    let chain = format!("{{{{#if data.nope}}}}{}x{{{{/if}}}}", "{{else if data.x}}".repeat(depth - 1));
    let lists = format!("{{{{json {}{}}}}}", "[".repeat(depth), "]".repeat(depth));
    let unclosed_inside = format!(
        "{}{{{{json (not data.x}}}}{}",
        "{{#if data.x}}".repeat(depth - 1),
        "{{/if}}".repeat(depth - 1)
    );
    for (template, renders) in
        [(blocks, true), (calls, true), (chain, true), (lists, true), (unclosed_inside, false)]
    {
        let webhook = Webhook {
            content_type: "text/plain".into(),
            body_template: Some(template.clone()),
            ..webhook(Engine::Handlebars)
        };
        let context = data(json!({"x": 1}));
        let thread = std::thread::Builder::new().stack_size(512 << 10);
        let result = thread
            .spawn(move || render_within(&webhook, &context, &limits).map_err(|errors| lines(&errors)))
            .unwrap()
            .join()
            .expect("rendering does not panic");
        assert_eq!(result.is_ok(), renders, "{template}: {result:?}");
    }
}
