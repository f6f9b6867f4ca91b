//! `render_with`: the embedder writes each printed value, and text it wrote once is not written again.

use std::fmt::Write;

use hookwire_jinja::{Options, Printed, Template};
use serde_json::json;

use crate::context;

fn brackets(printed: &Printed<'_>, out: &mut dyn Write) -> Result<(), minijinja::Error> {
    if printed.is_safe() {
        return Ok(out.write_str(&printed.text()?)?);
    }
    let mut json = String::new();
    printed.json(&mut json)?;
    Ok(write!(out, "<{json}>")?)
}

#[track_caller]
fn check(template: &str, expected: &str) {
    let context = context(&json!({"a": "x\"y", "n": 1.0, "list": [1, null], "big": 1e16}));
    let template = Template::compile(template, &Options::default()).expect("it compiles");
    assert_eq!(template.render_with(&context, brackets).as_deref(), Ok(expected));
}

#[test]
fn each_value_is_written_once() {
    check("{{ a }} {{ n }} {{ list }} {{ none }}", r#"<"x\"y"> <1.0> <[1,null]> <null>"#);
    check("{{ a|safe }} {{ list|tojson }} {{ a|e }}", r#"x"y [1, null] x&#34;y"#);
    check("{{ 'x' if false }}|", "|");
    check("{% set s %}{{ n }}!{% endset %}{{ s }}", "<1.0>!");
    check("{% macro m(x) %}{{ x }}!{% endmacro %}{{ m(n) }}", "<1.0>!");
    check("{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ n }}{% endcall %}", "<1.0>");
    check("{% filter replace('1', '2') %}{{ n }}{% endfilter %}", r#"<"<2.0>">"#);
}

#[test]
fn a_safe_part_makes_the_whole_safe_and_the_others_written() {
    check("{{ a ~ n }}", r#"<"x\"y1.0">"#);
    check("{{ a|safe ~ n }}", r#"x"y<1.0>"#);
    check("{{ n ~ (a|safe) ~ n }}", r#"<1.0>x"y<1.0>"#);
    check("{{ '+' + (a|safe) }}", r#"<"+">x"y"#);
    check("{{ [n, a|safe]|join('-') }}", r#"<1.0><"-">x"y"#);
    check("{% set s %}{{ n }}{% endset %}{{ s ~ s }}", "<1.0><1.0>");
}

#[test]
fn what_the_formatter_refuses_fails_the_rendering_at_its_place() {
    let template = Template::compile("a\n{{ range(3) }}", &Options::default()).expect("it compiles");
    let error = template.render_with(&context(&json!({})), brackets).expect_err("a range is not JSON");
    assert_eq!(error.to_string(), "line 2, column 4: a range is not JSON; add `|list` (in `range(3)`)");
}

#[test]
fn one_template_renders_in_many_threads() {
    let template = Template::compile("{% for i in list %}{{ i }}{% endfor %}", &Options::default())
        .expect("it compiles");
    let context = context(&json!({"list": [1, 2, 3]}));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(template.render(&context).as_deref(), Ok("123"));
                    assert_eq!(template.render_with(&context, brackets).as_deref(), Ok("<1><2><3>"));
                }
            });
        }
    });
}
