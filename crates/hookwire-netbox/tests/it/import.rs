//! Exports of NetBox's become files that a person would have written; what differs is told.

use std::path::Path;

use hookwire_config::{Overrides, load};
use hookwire_netbox::{Imported, import, read_page};
use serde_json::{Value, json};

fn export(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export").join(name);
    read_page(&std::fs::read_to_string(path).unwrap()).unwrap().items
}

fn imported(webhooks: &str, rules: &str) -> Imported {
    import(&export(webhooks), &export(rules)).unwrap()
}

fn findings(imported: &Imported) -> String {
    imported.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn an_export_becomes_what_a_person_would_have_written() {
    let imported = imported("webhooks.json", "event-rules.json");
    insta::assert_snapshot!("toml", imported.definitions.to_toml());
    insta::assert_snapshot!("json", imported.definitions.to_json());
    insta::assert_snapshot!("findings", findings(&imported));
}

/// What comes over loads, and what is broken is told once more, as a warning.
#[test]
fn the_output_loads() {
    let imported = imported("webhooks.json", "event-rules.json");
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("n.toml", imported.definitions.to_toml()), ("n.json", imported.definitions.to_json())]
    {
        let file = folder.path().join(name);
        // The one file that has to be copied.
        std::fs::write(folder.path().join("ca.pem"), "").unwrap();
        std::fs::write(&file, text.replace("/etc/ssl/ca.pem", "ca.pem")).unwrap();
        let config = load(&[file], &|_| None, &Overrides::new()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.definitions.webhooks().count(), 5);
        assert_eq!(config.definitions.rules().count(), 7);
        assert!(!config.warnings.is_empty());
    }
}

#[test]
fn older_releases_are_understood() {
    let imported = imported("webhooks-3.7.json", "event-rules-3.7.json");
    let text = imported.definitions.to_toml();
    assert!(
        text.contains("object_types = [\"dcim.site\"]\nevent_types = [\"created\", \"deleted\"]\n"),
        "{text}"
    );
}

#[test]
fn the_same_answers_give_the_same_bytes() {
    let text = || imported("webhooks.json", "event-rules.json").definitions.to_toml();
    assert_eq!(text(), text());
}

#[test]
fn what_is_no_definition_is_refused_with_its_place() {
    let webhook = json!({"id": 1, "name": "a", "payload_url": "http://localhost/"});
    let rule = json!({"id": 1, "name": "r", "action_type": {"value": "webhook"}});
    for (webhooks, rules, message) in [
        (
            vec![webhook.clone(), rule.clone()],
            vec![],
            "number 2 of the webhooks (\"r\") is an event rule, not a webhook: are the two files swapped?",
        ),
        (
            vec![],
            vec![webhook.clone()],
            "number 1 of the event rules (\"a\") is a webhook, not an event rule: are the two files swapped?",
        ),
        (
            vec![json!({"id": 1, "name": "brief"})],
            vec![],
            "number 1 of the webhooks (\"brief\") has no `payload_url`: ask for the list without `brief` and `fields`",
        ),
        (
            vec![json!({"payload_url": "http://localhost/", "name": 5})],
            vec![],
            "number 1 of the webhooks has a `name` that is no text",
        ),
    ] {
        assert_eq!(import(&webhooks, &rules).unwrap_err().to_string(), message);
    }
}

/// Whatever the API of some release leaves out or adds, an import is an answer.
#[test]
fn an_import_of_the_least_there_can_be() {
    let webhook = json!({"id": 1, "name": "a", "payload_url": "http://localhost/", "new_in_5": [1]});
    let rule = json!({"name": "r", "action_type": "webhook", "action_object": {"name": "a"},
        "object_types": ["dcim.site", "dcim.site", "nonsense"], "event_types": ["plugin_event"],
        "action_data": {"team": "noc", "nothing": null}});
    insta::assert_snapshot!("least", import(&[webhook], &[rule]).unwrap().definitions.to_toml());
}

/// All at once, however many there are: a compile for each would take minutes here.
#[test]
fn header_lines_that_are_not_a_webhooks_are_left_out() {
    let refused: String = (0..4_000).map(|index| format!("Connection: c{index}\n")).collect();
    let headers =
        format!("X-A: 1\n{refused}User-Agent: x\nX-B: {{{{ event }}}}\nuser-agent: y\nUser-Agent: x\n");
    let webhook =
        json!({"id": 1, "name": "a", "payload_url": "http://localhost/", "additional_headers": headers});
    let imported = import(&[webhook], &[]).unwrap();
    let webhook = &imported.definitions.webhooks[0].webhook;
    assert_eq!(webhook.additional_headers, "X-A: 1\nX-B: {{ event }}\n");
    assert!(webhook.enabled);
    // Each line is told once.
    let left_out: Vec<String> = findings(&imported)
        .lines()
        .filter_map(|line| Some(line.split_once("the header line `")?.1.split_once('`')?.0.to_owned()))
        .collect();
    let told = |line: &str| left_out.iter().filter(|told| *told == line).count();
    assert_eq!(
        (left_out.len(), told("Connection: c7"), told("User-Agent: x"), told("user-agent: y")),
        (4_002, 1, 1, 1)
    );
}
