//! What Jinja2 can do and we refuse: each with its name, its place and what to write instead.
//!
//! The snapshot is the list for people; `COMPATIBILITY.md` explains it.

use std::fmt::Write;

use hookwire_jinja::ErrorKind;
use serde_json::json;

use crate::{LENIENT, render};

const REFUSED: &[&str] = &[
    "{{ +1 }}",
    "{% print 1 %}",
    "{% trans %}x{% endtrans %}",
    "{{ 1 ~ self.title() }}",
    "{% macro m() %}{{ varargs }}{% endmacro %}",
    "{% macro m() %}{{ kwargs }}{% endmacro %}",
    "{% macro m(a, b=a) %}{% endmacro %}",
    "{% macro m(a=1) %}{{ a }}{% endmacro %}{{ m(nope) }}",
    "{% macro m(a=1) %}{{ a }}{% endmacro %}{{ m(*[1]) }}",
    "{% macro m() %}{% endmacro %}{{ m }}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% block a %}{{ super() }}{% endblock %}",
    "{% for i in [1] %}{% block b %}{{ i }}{% endblock %}{% endfor %}",
    "{% autoescape true %}{% endautoescape %}",
    "{% call x.y() %}{% endcall %}",
    "{{ lipsum() }}",
    "{{ [1]|random }}",
    "{{ 'x'|urlize }}",
    "{{ 1 < x.pop() < 3 }}",
    "{{ dict(a=1, *x) }}",
    "{{ x|map('string') }}",
    "{{ x.append }}",
    "{% for i in x %}{{ loop }}{% endfor %}",
    "{{ namespace() }}",
    "{{ range }}",
    "{{ joiner(x) }}",
    "{% set n = namespace() %}{{ [n] }}",
    "{% set g = x|map('string') %}{{ x.append(1) }}",
    "{{ x['app' ~ 'end'](1) }}",
    "{{ 2 ** 200 }}",
    "{{ 10 ** 20 / 3 }}",
    "{{ (-8) ** 0.5 }}",
    "{{ big + 1 }}",
    "{{ '\\N{BULLET}' }}",
    "{{ '\\a' }}",
    "{{ '\\/' }}",
    "{{ '\\ud83d\\ude00' }}",
    "{{ 'a'.translate({}) }}",
    "{{ 'a'.encode('latin-1') }}",
    "{{ '½'.isnumeric() }}",
    "{{ ('<'|e).replace('&', 'x') }}",
    "{{ ('<'|e) % 1 }}",
    "{{ ('<'|e ~ 'aaaaaaaaaa')|e|truncate(3, leeway=0) }}",
    "{{ '%a' % 1 }}",
    "{{ '%*d' % (1, 2) }}",
    "{{ '{!a}'.format(1) }}",
    "{{ '&eacute;'|striptags }}",
    "{{ 'aaa-bbb'|wordwrap(4) }}",
    "{{ range(50)|list|pprint }}",
    "{{ 'abc' is sameas 'abc' }}",
    "{{ x|sort == x.sort(key=1) }}",
    "{{ 1.5|round(none) }}",
    "{{ x|batch(0)|list }}",
    "{{ (-2 if true else y) ** x[1] }}",
    "{{ 2 ** (x or 3 or y) }}{{ -2 ** (1 and x[1]) }}",
    "{{ '٣'|int }}",
    "{{ '٣.5'|float }}",
    "{{ x.index(1, 0) }}",
    "{{ {range(2): 1} }}",
];

#[test]
fn each_refusal_says_what_to_write_instead() {
    let big = serde_json::from_str("1".repeat(50).as_str()).expect("a number");
    let context = json!({"x": [1, 2], "big": serde_json::Value::Number(big)});
    let mut text = String::new();
    for template in REFUSED {
        match render(template, &context, &LENIENT) {
            Ok(rendered) => panic!("{template} renders {rendered:?}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{template}: {error}");
                assert!(error.line().is_some() && error.column().is_some(), "{template}: {error}");
                writeln!(text, "{template}\n    {error}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn other_errors_name_their_place_too() {
    let mut text = String::new();
    for template in [
        "{{ }}",
        "a\nb {{ x",
        "{% if x %}",
        "{% endif %}",
        "{% do x %}",
        "{% break %}",
        "{{ 'é' ~ x|nosuch }}",
        "{{ x is nosuch }}",
        "{{ x|map('nosuch')|list }}",
        "{{ x|upper(1) }}",
        "{{ x|join(1, 2, 3) }}",
        "{{ x|tojson(indents=2) }}",
        "{{ x.nope.y }}",
        "{{ nope() }}",
        "{{ 'a'.nope() }}",
        "{{ x() }}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{{ 'a' < 1 }}",
        "{{ none|list }}",
        "{% for a, b in [1] %}{% endfor %}",
        "{% include 'x' %}",
        "{% macro m() %}{% endmacro %}{{ m(1) }}",
        "{{ 007 }}",
        "{{ 1 is odd is even }}",
        "{{ dict(a=1, a=2) }}",
        "{{ ''.__class__.__mro__ }}",
    ] {
        let error = render(template, &json!({"x": [1, 2]}), &LENIENT).expect_err(template);
        writeln!(text, "{template}\n    {:?}: {error}", error.kind()).unwrap();
    }
    insta::assert_snapshot!(text);
}
