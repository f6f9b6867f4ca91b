//! Headers and URLs: whatever a template renders to, what goes out is what HTTP allows.

use hookwire_model::{Engine, Escape};
use hookwire_template::{Rendered, WebhookTemplates};

use crate::templates::{limits, usual_context, webhook};

pub(crate) fn headers(text: &str) {
    for (engine, escape) in combinations() {
        let mut webhook = webhook(engine, escape);
        webhook.additional_headers = text.to_owned();
        let Ok(templates) = WebhookTemplates::compile(&webhook, &limits()) else { continue };
        let Ok(rendered) = templates.render(usual_context()) else { continue };
        check(&rendered);
        assert_eq!(templates.render(usual_context()).ok().as_ref(), Some(&rendered));
    }
}

pub(crate) fn url(text: &str) {
    for (engine, escape) in combinations() {
        let mut webhook = webhook(engine, escape);
        webhook.url = text.to_owned();
        let Ok(templates) = WebhookTemplates::compile(&webhook, &limits()) else { continue };
        let Ok(rendered) = templates.render(usual_context()) else { continue };
        check(&rendered);
        if let Some(literal) = templates.literal_authority() {
            assert_eq!(*literal, rendered.authority, "a literal host is where the request goes");
        }
    }
}

fn combinations() -> impl Iterator<Item = (Engine, Escape)> {
    let of = |engine: &Engine| {
        Escape::ALL.iter().map({
            let engine = *engine;
            move |escape| (engine, *escape)
        })
    };
    Engine::ALL.iter().flat_map(of)
}

/// What HTTP allows, by another implementation of it.
fn check(rendered: &Rendered) {
    let Rendered { authority, target, authorization, headers, .. } = rendered;
    assert!(target.starts_with('/'), "{target:?}");
    assert!(target.bytes().all(|b| b.is_ascii_graphic()), "{target:?}");
    target.parse::<http::uri::PathAndQuery>().unwrap_or_else(|error| panic!("{target:?}: {error}"));
    let host = &authority.host;
    assert!(!host.is_empty() && authority.port != 0, "{authority:?}");
    assert!(
        !host.contains(['/', '?', '#', '@', '\\', ' ']) && host.bytes().all(|b| b.is_ascii_graphic()),
        "{host:?}"
    );
    let shown = format!("{host}:{}", authority.port);
    shown.parse::<http::uri::Authority>().unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    let mut names = Vec::new();
    for (name, value) in headers {
        let name =
            http::HeaderName::from_bytes(name.as_bytes()).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        http::HeaderValue::from_bytes(value).unwrap_or_else(|error| panic!("{value:?}: {error}"));
        assert!(
            !["host", "content-length", "transfer-encoding", "connection"].contains(&name.as_str()),
            "{name}"
        );
        assert!(!names.contains(&name), "{name} stands twice");
        names.push(name);
    }
    if let Some(value) = authorization {
        http::HeaderValue::from_str(value).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    }
}
