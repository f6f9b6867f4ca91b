//! How results look: tables and texts for people, JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use hookwire_engine::{Clock as _, SystemClock};
use hookwire_model::{Attempt, Delivery, DeliveryState, Timestamp, WaitingReason};
use hookwire_worker::is_coloured;

use crate::table::{Column, Tone, table};

/// How results look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// A value as JSON, indented.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("strings and numbers always serialise")
}

/// What a list of deliveries shows.
const COLUMNS: &[Column] = &[
    Column { name: "ID", spare: 0, width_min: None },
    Column { name: "STATE", spare: 0, width_min: Some(16) },
    Column { name: "LAST", spare: 0, width_min: Some(9) },
    Column { name: "WEBHOOK", spare: 1, width_min: Some(12) },
    Column { name: "NEXT", spare: 2, width_min: None },
    Column { name: "OBJECT TYPE", spare: 4, width_min: Some(12) },
    Column { name: "ATTEMPTS", spare: 3, width_min: None },
    Column { name: "RULE", spare: 5, width_min: Some(12) },
    Column { name: "EVENT", spare: 6, width_min: Some(8) },
];

/// The column that is shown only where something waits.
const NEXT: usize = 4;

/// Deliveries as a table that fits the terminal.
pub(crate) fn delivery_table(items: &[Delivery]) -> String {
    let width = terminal_size();
    delivery_rows(items, SystemClock.now(), width, is_coloured(&std::io::stdout()))
}

fn delivery_rows(items: &[Delivery], now: Timestamp, width: Option<u16>, colour: bool) -> String {
    let rows = items.iter().map(|delivery| {
        let plain = |text: String| (text, Tone::Plain);
        let tone = match delivery.state {
            DeliveryState::Delivered => Tone::Good,
            DeliveryState::Dead => Tone::Bad,
            DeliveryState::Waiting | DeliveryState::Running => Tone::Open,
            DeliveryState::Cancelled | DeliveryState::Superseded => Tone::Plain,
        };
        let next = match next_attempt(delivery) {
            Some(at) if at > now => format!("in {}", duration_text(at.saturating_since(now))),
            Some(_) => "now".to_owned(),
            None => "-".to_owned(),
        };
        vec![
            plain(delivery.id.to_string()),
            (state(delivery), tone),
            plain(last(delivery)),
            plain(delivery.webhook.as_ref().map_or("-", |webhook| webhook.as_str()).to_owned()),
            plain(next),
            plain(delivery.object_type.clone().unwrap_or_else(|| "-".into())),
            plain(delivery.attempts.to_string()),
            plain(delivery.rule.as_ref().map_or("-", |rule| rule.as_str()).to_owned()),
            plain(delivery.event.clone().unwrap_or_else(|| "-".into())),
        ]
    });
    let mut rows: Vec<Vec<(String, Tone)>> = rows.collect();
    let mut columns = COLUMNS.to_vec();
    if items.iter().all(|delivery| next_attempt(delivery).is_none()) {
        columns.remove(NEXT);
        rows.iter_mut().for_each(|row| drop(row.remove(NEXT)));
    }
    let mut text = table(&columns, rows, width, colour);
    for delivery in items {
        if let Some(reason) = reason_without_attempt(delivery) {
            let _ = write!(text, "\n{}: {reason}", delivery.id);
        }
    }
    text
}

/// When the next attempt goes out, where that is known: what is held waits for something else than a time, and is due
/// long before it goes.
fn next_attempt(delivery: &Delivery) -> Option<Timestamp> {
    let by_time = match delivery.waiting_reason? {
        WaitingReason::Retry | WaitingReason::Room | WaitingReason::Worker => true,
        WaitingReason::RateLimit
        | WaitingReason::Unhealthy
        | WaitingReason::Paused
        | WaitingReason::WebhookDisabled
        | WaitingReason::WebhookRemoved
        | WaitingReason::Order => false,
    };
    delivery.next_attempt_at.filter(|_| by_time)
}

/// What went wrong with a delivery that has no attempt to tell it.
fn reason_without_attempt(delivery: &Delivery) -> Option<String> {
    let error = delivery.last_error.as_ref().filter(|_| delivery.attempts == 0)?;
    Some(format!("{}: {}", error.kind, error.message))
}

/// How wide the terminal is that standard output goes to, if it goes to one.
pub(crate) fn terminal_size() -> Option<u16> {
    comfy_table::Table::new().width()
}

/// A duration as people say it, in its two largest units: `4m 58s`.
pub(crate) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, size)| seconds >= *size) else { return "0s".into() };
    let (name, size) = units[first];
    let mut text = format!("{}{name}", seconds / size);
    if let Some((next, smaller)) = units.get(first + 1)
        && seconds % size >= *smaller
    {
        let _ = write!(text, " {}{next}", seconds % size / smaller);
    }
    text
}

/// A number of bytes as people say it: `1.4 MiB`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
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
    if let Some(reason) = reason_without_attempt(delivery) {
        line("reason", reason);
    }
    if let Some(at) = next_attempt(delivery) {
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
    match noun.strip_suffix('y') {
        _ if count == 1 => format!("1 {noun}"),
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_told_in_their_largest_units() {
        let durations = [0, 59, 60, 298, 3_600, 3_659, 90_000, 864_000].map(Duration::from_secs);
        assert_eq!(
            durations.map(duration_text),
            ["0s", "59s", "1m", "4m 58s", "1h", "1h", "1d 1h", "10d"].map(str::to_owned)
        );
        let sizes = [0, 1023, 1024, 1_500_000, 5 << 30].map(bytes_text);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.4 MiB", "5.0 GiB"].map(str::to_owned));
        assert_eq!([0, 1, 2].map(|count: u64| counted(count, "event")), ["0 events", "1 event", "2 events"]);
    }

    #[test]
    fn a_list_of_deliveries_fits_the_terminal() {
        let text = include_str!("../tests/deliveries.json");
        let items: Vec<Delivery> = serde_json::from_str(text).unwrap();
        let now = "2026-11-23T16:40:00Z".parse().unwrap();
        let shown = [None, Some(140), Some(100), Some(80)]
            .map(|width| format!("{width:?}\n{}", delivery_rows(&items, now, width, false)));
        insta::assert_snapshot!(shown.join("\n\n"));
        insta::assert_snapshot!("a_delivery_without_attempts_tells_why", delivery_text(&items[3]));
    }

    #[test]
    fn what_is_held_has_no_next_attempt() {
        let text = include_str!("../tests/deliveries.json");
        let items: Vec<Delivery> = serde_json::from_str(text).unwrap();
        for reason in WaitingReason::ALL.iter().copied() {
            let delivery = Delivery { waiting_reason: Some(reason), ..items[1].clone() };
            let told = matches!(reason, WaitingReason::Retry | WaitingReason::Room | WaitingReason::Worker);
            assert_eq!(next_attempt(&delivery).is_some(), told, "{reason}");
            assert_eq!(delivery_text(&delivery).contains("next attempt"), told, "{reason}");
        }
    }
}
