//! What the three comparisons share: the files, definitions by way of the importer, and the count.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use hookwire_config::{Overrides, load_sound};
use hookwire_definitions::Definitions;
use hookwire_model::{Event, EventDefaults, EventId, Timestamp};
use hookwire_netbox::import;
use serde_json::{Value, json};

/// The lines of a file of the corpus.
pub(crate) fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/netbox").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// Definitions of NetBox's, imported, written as TOML, with these lines added to each webhook, and loaded. What is broken
/// is left out, as `preview` and `explain` leave it out.
pub(crate) fn definitions(webhooks: &[Value], rules: &[Value], added: &str) -> Definitions {
    let imported = import(webhooks, rules).expect("the corpus holds webhooks and event rules");
    let marker = "default_body = \"netbox\"\n";
    let text = imported.definitions.to_toml().replace(marker, &format!("{marker}{added}"));
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("netbox.toml");
    std::fs::write(&file, &text).expect("there is room for a file");
    let (config, _) = load_sound(&[file], &|_| None, &Overrides::new())
        .unwrap_or_else(|error| panic!("the importer's output does not load: {error}\n{text}"));
    config.definitions
}

/// A webhook as NetBox's API shows one, with these members.
pub(crate) fn webhook(members: Value) -> Value {
    let mut webhook = json!({
        "id": 1, "name": "webhook", "payload_url": "http://127.0.0.1/", "http_method": "POST",
        "http_content_type": "application/json", "additional_headers": "", "body_template": "", "secret": "",
        "ssl_verification": true, "ca_file_path": null,
    });
    for (name, value) in members.as_object().expect("members are an object") {
        webhook[name] = value.clone();
    }
    webhook
}

/// The event that a context of NetBox's came from.
pub(crate) fn event(context: &Value, event_type: Option<&Value>) -> Arc<Event> {
    let mut members = context.clone();
    if let Some(event_type) = event_type {
        members["event_type"] = event_type.clone();
    }
    let mut new_id = || EventId::new("e").expect("a letter is an id");
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
    let event = Event::parse(&members.to_string(), &mut defaults);
    Arc::new(event.unwrap_or_else(|error| panic!("{error}: {members}")))
}

/// A URL without what is not sent in it: the fragment, and credentials, which become a header.
pub(crate) fn url(url: &str) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    format!("{scheme}://{host}{}", &rest[end..])
}

/// Headers in the order of their names, without those that are each sender's own.
pub(crate) fn headers(headers: impl Iterator<Item = (String, String)>) -> String {
    const OWN: [&str; 8] = [
        "user-agent",
        "accept",
        "accept-encoding",
        "connection",
        "host",
        "content-length",
        "webhook-id",
        "webhook-attempt",
    ];
    let mut lines: Vec<String> = headers
        .map(|(name, value)| (name.to_lowercase(), value))
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Bytes as the characters of Latin-1, which is what headers hold.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A text with each address of memory masked, as the corpus masks them.
pub(crate) fn masked_addresses(text: &str) -> String {
    let mut parts = text.split(" at 0x");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str(" at 0xADDR");
        masked.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    masked
}

/// A line that does not match, why, and how its answer begins today.
pub(crate) struct Difference {
    pub(crate) id: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) today: &'static str,
}

/// What to say of the lines of one file.
pub(crate) struct Comparison {
    file: &'static str,
    differences: &'static [Difference],
    total: usize,
    matched: usize,
    seen: Vec<&'static str>,
    pub(crate) problems: Vec<String>,
}

impl Comparison {
    pub(crate) fn new(file: &'static str, differences: &'static [Difference]) -> Self {
        Comparison { file, differences, total: 0, matched: 0, seen: Vec::new(), problems: Vec::new() }
    }

    /// Compares one line's answers, as text.
    pub(crate) fn line(&mut self, line: &Value, ours: &str, netboxs: &str) {
        self.total += 1;
        let id = line["id"].as_str().unwrap_or_default();
        let listed = self.differences.iter().find(|difference| difference.id == id);
        // What goes wrong goes wrong in either's words.
        let same = ours == netboxs || (netboxs == "error" && ours.starts_with("error: "));
        match (same, listed) {
            (true, None) => self.matched += 1,
            (true, Some(Difference { reason, .. })) => {
                self.problems.push(format!("{id} is listed as a difference ({reason}) and is none"));
            }
            (false, Some(difference)) if ours.starts_with(difference.today) => {
                self.seen.push(difference.id);
            }
            (false, listed) => {
                let listed = listed.map_or_else(String::new, |difference| {
                    format!("\n  listed: {} ({})", difference.today, difference.reason)
                });
                self.problems.push(format!(
                    "{id} ({})\n  ours:   {ours}\n  NetBox: {netboxs}{listed}",
                    line["kind"].as_str().unwrap_or_default()
                ));
            }
        }
    }

    /// Ends the comparison, which must have shown every listed difference; people find each one in the documentation.
    pub(crate) fn finish(mut self) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/netbox.md");
        let documented = std::fs::read_to_string(path).expect("the documentation is there");
        for difference in self.differences {
            if !documented.contains(&format!("`{}`", difference.id)) {
                self.problems
                    .push(format!("{} is a difference without an entry in docs/netbox.md", difference.id));
            }
            if !self.seen.contains(&difference.id)
                && !self.problems.iter().any(|p| p.starts_with(difference.id))
            {
                self.problems.push(format!("{} is listed as a difference and is no line", difference.id));
            }
        }
        self
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "netbox {}: {} / {} matched", self.file, self.matched, self.total)?;
        match self.seen.len() {
            0 => Ok(()),
            listed => write!(f, ", {listed} differ as listed"),
        }
    }
}
