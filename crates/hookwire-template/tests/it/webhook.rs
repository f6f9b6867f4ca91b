//! URL, headers and default bodies.

use bytes::Bytes;
use hookwire_model::{DefaultBody, Engine, Escape, Webhook};
use serde_json::json;

use crate::support::{context, data, lines, netbox, render, webhook};

#[test]
fn a_host_is_literal_only_where_it_stands_in_the_template() {
    let context =
        data(json!({"slug": "x", "host": "example.org", "url": "http://example.org/a/../b", "dot": "."}));
    for (url, expected) in [
        ("https://example.org", Ok(("https://example.org:443", true, "/"))),
        ("https://example.org/{{data.slug}}", Ok(("https://example.org:443", true, "/x"))),
        ("https://example.org?q={{data.slug}}", Ok(("https://example.org:443", true, "/?q=x"))),
        ("https://{{data.host}}/y", Ok(("https://example.org:443", false, "/y"))),
        ("https://example.org{{data.slug}}/", Ok(("https://example.orgx:443", false, "/"))),
        ("https://example.org:80{{data.slug}}/", Err("malformed host or port")),
        ("{{{data.url}}}", Ok(("http://example.org:80", false, "/b"))),
        ("{{data.url}}", Err("has no scheme")),
        ("https://example.org/{{data.host}}/../{{data.slug}}", Err("`.` or `..`")),
        ("https://example.org/a/{{data.dot}}%2e/b", Err("`.` or `..`")),
        ("https://example.org/a/{{data.dot}}%2E?q={{data.slug}}", Err("`.` or `..`")),
        ("https://example.org/a/{{data.slug}}%2e/b", Ok(("https://example.org:443", true, "/a/x./b"))),
        ("https://example.org/{{data.slug}}\n", Ok(("https://example.org:443", true, "/x"))),
        (" https://example.org/x\n\n", Ok(("https://example.org:443", true, "/x"))),
        ("https://user@example.org/", Err("without a password")),
        ("https://{{data.slug}}@example.org/", Err("without a password")),
        ("https://a:b@example.org/{{data.slug}}", Ok(("https://example.org:443", true, "/x"))),
    ] {
        for engine in [Engine::Handlebars, Engine::Jinja] {
            let mut webhook = webhook(engine);
            webhook.url = match engine {
                Engine::Handlebars => url.into(),
                Engine::Jinja => url.replace("{{{data.url}}}", "{{data.url|safe}}"),
            };
            match (render(&webhook, &context), expected) {
                (Ok(rendered), Ok((authority, literal, target))) => {
                    assert_eq!(rendered.authority.to_string(), authority, "{url}");
                    assert_eq!(
                        (rendered.literal_host, &*rendered.target),
                        (literal, target),
                        "{engine} {url}"
                    );
                }
                (Err(errors), Err(part)) => assert!(lines(&errors).contains(part), "{}", lines(&errors)),
                (result, expected) => panic!("{engine} {url}: {result:?} instead of {expected:?}"),
            }
        }
    }
}

#[test]
fn headers_come_out_in_order() {
    let mut webhook = webhook(Engine::Handlebars);
    webhook.url = "https://user:p%C3%A4ss@example.org/".into();
    webhook.additional_headers =
        "X-Object: {{object_type}}\n\n{{#each data.tags}}\nX-{{@index}}: {{this}}\n{{/each}}\nx-object: again\r\nX-É-less: é"
            .replace("É", "E");
    let rendered = render(&webhook, &data(json!({"tags": ["a", "b"]}))).unwrap();
    assert_eq!(rendered.authorization.as_deref(), Some("Basic dXNlcjpw5HNz"));
    let headers: Vec<(&str, &[u8])> = rendered.headers.iter().map(|(n, v)| (n.as_str(), &v[..])).collect();
    assert_eq!(headers, [("x-object", &b"again"[..]), ("X-0", b"a"), ("X-1", b"b"), ("X-E-less", b"\xe9")]);
}

#[test]
fn what_cannot_be_sent_is_told_before_anything_is_rendered() {
    let mut shown = Vec::new();
    for (engine, headers) in [
        (Engine::Handlebars, "X-A: {{data.x}}\nHost: example.org\nno colon\nUser-Agent: {{username}}"),
        (Engine::Jinja, "X-A: {{ data.x }}\n  webhook-id: 1\nX B: 2\nContent-Type: {{ data.type }}"),
        (Engine::Handlebars, "X-A: 1\nX-B: €"),
        (Engine::Handlebars, "Content-Length: 5\nTransfer-Encoding: chunked\nConnection: close"),
        (Engine::Jinja, "{# User-Agent: me #}X-A: 1"),
        (Engine::Handlebars, "{{#if data.x}}\nContent-Type: text/plain\n{{/if}}"),
        (Engine::Handlebars, "{{default data.x \"content-type\"}}: text/plain"),
        (Engine::Jinja, "{% set x = {\n  'host': 1,\n  'a b': 2} %}X-A: {{ x.host }}"),
    ] {
        let mut webhook = webhook(engine);
        webhook.additional_headers = headers.into();
        shown.push(format!("{engine} {headers:?}"));
        match render(&webhook, &data(json!({}))) {
            Ok(rendered) => shown.push(format!("  {:?}", rendered.headers)),
            Err(errors) => shown.push(
                lines(&errors)
                    .lines()
                    .map(|line| format!("  {line}\n"))
                    .collect::<String>()
                    .trim_end()
                    .into(),
            ),
        }
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn every_problem_is_told_at_once() {
    let mut webhook = webhook(Engine::Handlebars);
    webhook.url = "https://exa mple.org/{{x}}".into();
    webhook.additional_headers = "Host: a\n{{nope b}}".into();
    webhook.body_template = Some("{{#if}}{{/if}}{{jsn data}}".into());
    insta::assert_snapshot!(lines(&render(&webhook, &data(json!({}))).unwrap_err()));
}

#[test]
fn a_content_type_among_the_headers_decides_about_escaping() {
    let mut webhook = webhook(Engine::Handlebars);
    webhook.additional_headers = "Content-Type: text/plain".into();
    webhook.body_template = Some("{{data.s}}".into());
    let rendered = render(&webhook, &data(json!({"s": "a \"b\""}))).unwrap();
    assert_eq!(&rendered.body[..], b"a \"b\"");
    assert_eq!(rendered.headers, [("Content-Type".into(), Bytes::from_static(b"text/plain"))]);
}

#[test]
fn default_bodies() {
    let context = context(json!({
        "data": {"s": "ü\u{1f680}", "f": [1.0, 1e16, 1e-7], "big": 18446744073709551615u64},
        "timestamp": "2026-03-06T15:11:23.503186+00:00", "username": "zoë",
        "snapshots": {"prechange": null, "postchange": {"a": 1}}
    }));
    let mut webhook = webhook(Engine::Handlebars);
    let json = render(&webhook, &context).unwrap().body;
    assert_eq!(json, context.to_json());
    webhook.default_body = DefaultBody::Netbox;
    let netbox = render(&webhook, &context).unwrap().body;
    assert_eq!(
        std::str::from_utf8(&netbox).unwrap(),
        r#"{"event": "created", "timestamp": "2026-03-06T15:11:23.503186+00:00", "object_type": "dcim.site", "username": "zo\u00eb", "request_id": null, "data": {"s": "\u00fc\ud83d\ude80", "f": [1.0, 1e+16, 1e-07], "big": 18446744073709551615}, "snapshots": {"prechange": null, "postchange": {"a": 1}}}"#
    );
    // An empty template is no template, as in NetBox.
    webhook.body_template = Some(String::new());
    assert_eq!(render(&webhook, &context).unwrap().body, netbox);
}

#[test]
fn a_whole_webhook_renders() {
    let webhook = Webhook {
        url: "https://hooks.example/{{ object_type }}?id={{ data.id }}".into(),
        additional_headers: "X-Event: {{ event }}\nX-User: {{ username }}\n".into(),
        body_template: Some("{\"id\": {{ data.id }}, \"name\": \"{{ data.name }}\"}\n".into()),
        ..webhook(Engine::Jinja)
    };
    let context = context(json!({"username": "zoë", "data": {"id": 7, "name": "a\"b"}}));
    let rendered = render(&webhook, &context).unwrap();
    insta::assert_debug_snapshot!(rendered);
    // Once more, the same bytes.
    assert_eq!(render(&webhook, &context).unwrap(), rendered);
}

#[test]
fn without_escaping_a_value_does_what_it_does_in_netbox() {
    let context = data(json!({"s": "a\r\nX-Injected: yes", "path": "../x y"}));
    let mut webhook = netbox();
    webhook.url = "http://h/a/{{ data.path }}".into();
    webhook.additional_headers = "X-A: {{ data.s }}\nno colon\nX-A: {{ data.nope }}".into();
    webhook.body_template = Some("{\"s\": {{ data.s }}".into());
    assert_eq!(webhook.escape, Escape::None);
    let rendered = render(&webhook, &context).unwrap();
    assert_eq!(rendered.target, "/x%20y");
    let names: Vec<&str> = rendered.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-A", "X-Injected"]);
    assert_eq!(&rendered.body[..], b"{\"s\": a\r\nX-Injected: yes");
}
