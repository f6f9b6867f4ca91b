//! How results look: tables and texts for people, JSON for programs.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use hookwire_model::{Attempt, Delivery};

/// How results look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Deliveries as a table that fits the terminal.
pub(crate) fn delivery_table(items: &[Delivery]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["ID", "STATE", "EVENT", "OBJECT TYPE", "RULE", "WEBHOOK", "ATTEMPTS", "LAST"]);
    for delivery in items {
        table.add_row([
            delivery.id.to_string(),
            state(delivery),
            delivery.event.clone().unwrap_or_else(|| "-".into()),
            delivery.object_type.clone().unwrap_or_else(|| "-".into()),
            delivery.rule.as_ref().map_or("-", |rule| rule.as_str()).to_owned(),
            delivery.webhook.as_ref().map_or("-", |webhook| webhook.as_str()).to_owned(),
            delivery.attempts.to_string(),
            last(delivery),
        ]);
    }
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn state(delivery: &Delivery) -> String {
    match (delivery.waiting_reason, delivery.dead_reason) {
        (Some(reason), _) => format!("{} ({reason})", delivery.state),
        (_, Some(reason)) => format!("{} ({reason})", delivery.state),
        _ => delivery.state.to_string(),
    }
}

fn last(delivery: &Delivery) -> String {
    match (&delivery.last_status, &delivery.last_error) {
        (Some(status), _) => status.to_string(),
        (None, Some(error)) => error.kind.to_string(),
        (None, None) => "-".into(),
    }
}

/// One delivery with its attempts.
pub(crate) fn delivery_text(delivery: &Delivery) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<13}{value}");
    };
    line("delivery", delivery.id.to_string());
    line("state", state(delivery));
    line("event", delivery.event_id.to_string());
    if let (Some(event), Some(object_type)) = (&delivery.event, &delivery.object_type) {
        line("what", format!("{event} {object_type}"));
    }
    if let (Some(rule), Some(webhook)) = (&delivery.rule, &delivery.webhook) {
        line("rule", rule.to_string());
        line("webhook", webhook.to_string());
    }
    if let Some(endpoint) = delivery.endpoint {
        line("endpoint", endpoint.to_string());
    }
    line("accepted", delivery.created_at.to_string());
    if let Some(at) = delivery.next_attempt_at {
        line("next attempt", at.to_string());
    }
    if let Some(at) = delivery.finished_at {
        line("finished", at.to_string());
    }
    if delivery.interrupted > 0 {
        line("interrupted", delivery.interrupted.to_string());
    }
    for attempt in delivery.attempt_log.iter().flatten() {
        text.push_str(&attempt_text(attempt));
    }
    text
}

fn attempt_text(attempt: &Attempt) -> String {
    let millis = attempt.duration.as_micros() as f64 / 1000.0;
    let how = match (attempt.status, &attempt.error) {
        (Some(status), None) => format!("{} with {status}", attempt.outcome),
        (Some(status), Some(error)) => {
            format!("{} with {status}, then {}: {}", attempt.outcome, error.kind, error.message)
        }
        (None, Some(error)) => format!("{}, {}: {}", attempt.outcome, error.kind, error.message),
        (None, None) => attempt.outcome.to_string(),
    };
    let mut text =
        format!("\nattempt {} at {}: {how} ({millis:.1} ms)\n", attempt.number, attempt.started_at);
    if let Some(request) = &attempt.request {
        let _ = writeln!(text, "  > {} {}", request.method, request.url);
        for (name, value) in &request.headers {
            let _ = writeln!(text, "  > {name}: {value}");
        }
        let _ = writeln!(text, "  > ({} bytes, SHA-256 {})", request.body_bytes, request.body_sha256);
    }
    for hop in &attempt.hops {
        let _ = writeln!(text, "  {} -> {}", hop.status, hop.url);
    }
    if let Some(response) = &attempt.response {
        let _ = writeln!(text, "  < {}", response.status);
        for (name, value) in &response.headers {
            let _ = writeln!(text, "  < {name}: {value}");
        }
        if !response.body_base64.is_empty() {
            let more = if response.truncated { " ..." } else { "" };
            let _ =
                writeln!(text, "  < {}{more}", String::from_utf8_lossy(&response.body_base64).escape_debug());
        }
    }
    text
}

/// A count with its noun: `1 event`, `2 events`.
pub(crate) fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Prints to standard output; a reader that has gone away (`| head`) is not an error.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(stdout, "{text}{newline}").and_then(|()| stdout.flush());
}
