//! `templates.jsonl`: templates as bodies, URLs and headers of webhooks.

use hookwire_model::{DeliveryId, PreparedRequest, Sequence, Shard, TemplateContext, Timestamp, WebhookName};
use serde_json::{Value, json};

use crate::support::{
    Comparison, Difference, definitions, event, headers, latin1, lines, masked_addresses, url, webhook,
};

const DIFFERENCES: &[Difference] = &[
    Difference { id: "tmpl-0075", reason: "`model` is defined here", today: "[site]" },
    Difference {
        id: "tmpl-0095",
        reason: "a method that is not called prints with its memory address",
        today: "error: body_template, line 1, column 4: printing the method `keys`",
    },
    Difference {
        id: "tmpl-0405",
        reason: "`urlize`",
        today: "error: body_template, line 1, column 30: the filter `urlize`",
    },
    Difference {
        id: "tmpl-0407",
        reason: "`random`",
        today: "error: body_template, line 1, column 14: the filter `random`",
    },
    Difference {
        id: "tmpl-0518",
        reason: "unary `+`",
        today: "error: body_template, line 1, column 4: unary `+`",
    },
    Difference {
        id: "tmpl-0604",
        reason: "`varargs`",
        today: "error: body_template, line 1, column 19: `varargs`",
    },
    Difference {
        id: "tmpl-0644",
        reason: "`{% print %}`",
        today: "error: body_template, line 1, column 4: `{% print .. %}`",
    },
    Difference { id: "tmpl-0692", reason: "`self`", today: "error: body_template, line 1, column 4: `self`" },
    Difference {
        id: "tmpl-0720",
        reason: "`{% raw %}` without its end renders nothing there",
        today: "error: body_template, line 1, column 10: unexpected end of raw block",
    },
    Difference {
        id: "tmpl-0801",
        reason: "a URL without a scheme, which cannot be called there either",
        today: "error: url: the URL `127.0.0.1:9101/noscheme` has no scheme",
    },
    Difference {
        id: "tmpl-0802",
        reason: "the same",
        today: "error: url: the URL `//127.0.0.1:9101/x` has no scheme",
    },
    Difference {
        id: "tmpl-0868",
        reason: "a header name that is not ASCII",
        today: "error: additional_headers, line 1, column 1: the header name `X-Ü` holds 'Ü', which HTTP forbids",
    },
    Difference {
        id: "tmpl-0872",
        reason: "a space in a header name",
        today: "error: additional_headers, line 1, column 1: the header name `X A` holds ' ', which HTTP forbids",
    },
    Difference {
        id: "tmpl-0884",
        reason: "`Transfer-Encoding` by hand",
        today: "error: additional_headers, line 1, column 1: the header Transfer-Encoding can't be set by a webhook",
    },
    Difference {
        id: "tmpl-0906",
        reason: "its context has `snapshots` before `request`; an event has them in NetBox's own order",
        today: r#"{"event": "updated", "timestamp""#,
    },
];

/// Some lines have a letter for a timestamp, which no event has; this takes its place.
const TIMESTAMP: &str = "2026-03-06T15:11:23.503186+00:00";

pub(crate) fn compare() -> Comparison {
    let mut comparison = Comparison::new("templates.jsonl", DIFFERENCES);
    for line in lines("templates.jsonl") {
        comparison.line(&line, &ours(&line), &netboxs(&line));
    }
    comparison.finish()
}

fn ours(line: &Value) -> String {
    let template = &line["template"];
    let webhook = webhook(match line["function"].as_str() {
        Some("url") => json!({"payload_url": template}),
        Some("headers") => json!({"additional_headers": template}),
        Some("default_body") => json!({}),
        _ => json!({"body_template": template}),
    });
    match (request(webhook, line), line["function"].as_str()) {
        (Err(error), _) => format!("error: {error}"),
        (Ok(request), Some("url")) => url(&request.url()),
        (Ok(request), Some("headers")) => {
            headers(request.headers.iter().map(|(name, value)| (name.to_string(), latin1(value))))
        }
        (Ok(request), _) => masked_addresses(&String::from_utf8_lossy(&request.body)),
    }
}

fn request(webhook: Value, line: &Value) -> Result<PreparedRequest, String> {
    let definitions = definitions(&[webhook], &[], "");
    let name = WebhookName::new("webhook").expect("a word is a name");
    let compiled = definitions.webhook(&name).expect("a broken webhook is disabled, not gone");
    let mut context = line["context"].clone();
    if context["timestamp"] == "t" {
        context["timestamp"] = TIMESTAMP.into();
    }
    let context = TemplateContext::new(event(&context, None), &Default::default());
    let id = DeliveryId::from_parts(Shard(0), Sequence(0), 0);
    compiled.prepare(&context, id, 1, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())
}

fn netboxs(line: &Value) -> String {
    let text = |member: &str| line[member].as_str().map(str::to_owned);
    if !line["error"].is_null() || line["prepare_error"].is_object() {
        return "error".into();
    }
    match line["function"].as_str() {
        Some("url") => url(&text("prepared_url").unwrap_or_default()),
        Some("headers") => {
            let prepared = line["prepared_headers"].as_array().into_iter().flatten();
            headers(prepared.map(|header| (string(&header[0]), string(&header[1]))))
        }
        Some("default_body") => {
            let letter = r#""timestamp": "t""#;
            string(&line["rendered"]).replace(letter, &format!(r#""timestamp": "{TIMESTAMP}""#))
        }
        _ => text("rendered").or_else(|| text("rendered_masked")).unwrap_or_default(),
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
