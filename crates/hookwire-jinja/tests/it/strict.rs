//! Strict mode: using what does not exist is an error, asking for it is not.

use hookwire_jinja::{ErrorKind, Options};
use serde_json::json;

use crate::render;

#[test]
fn using_what_does_not_exist_is_an_error() {
    for template in [
        "{{ nope }}",
        "{{ data.nope }}",
        "{{ data['nope'] }}",
        "{{ data.none.x }}",
        "{{ data.nope.x }}",
        "{{ nope() }}",
        "{{ nope|upper }}",
        "{{ nope|tojson }}",
        "{{ nope|join }}",
        "{{ nope|list }}",
        "{{ nope|length }}",
        "{{ nope|first }}",
        "{{ nope|map('upper')|list }}",
        "{{ [nope] }}",
        "{{ nope ~ 'x' }}",
        "{{ nope + 1 }}",
        "{{ nope < 1 }}",
        "{{ -nope }}",
        "{{ nope[0] }}",
        "{{ nope[1:] }}",
        "{{ 'a' in nope }}",
        "{{ '%s' % nope }}",
        "{% for x in nope %}{% endfor %}",
        "{{ nope.x is defined }}",
        "{{ data.list[9] }}",
        "{{ nope|e }}",
        "{% set x = nope %}{{ x }}",
        "{{ {'a': nope} }}",
        "{{ nope|items|list }}",
        "{{ nope|safe }}",
        "{{ []|first }}",
    ] {
        let json = json!({"data": {"none": null, "list": [1]}});
        let error = render(template, &json, &Options::default()).expect_err(template);
        assert_eq!(error.kind(), ErrorKind::Undefined, "{template}: {error}");
        assert_eq!(error.line(), Some(1), "{template}: {error}");
    }
}

#[test]
fn asking_for_what_does_not_exist_is_none() {
    for (template, expected) in [
        ("{% if nope %}a{% else %}b{% endif %}", "b"),
        ("{% if data.nope %}a{% else %}b{% endif %}", "b"),
        ("{{ 'a' if nope else 'b' }}", "b"),
        ("{{ 'a' if nope }}", ""),
        ("{{ nope|default('d') }}", "d"),
        ("{{ data.nope|d('d') }}", "d"),
        ("{{ nope is defined }}", "False"),
        ("{{ data.none.x is undefined }}", "True"),
        ("{{ not nope }}", "True"),
        ("{{ nope or 'x' }}", "x"),
        ("{{ nope == 1 }}", "False"),
        ("{{ data.none == none }}", "True"),
        ("{{ data.none }}", "None"),
    ] {
        let json = json!({"data": {"none": null}});
        assert_eq!(render(template, &json, &Options::default()).as_deref(), Ok(expected), "{template}");
    }
}
