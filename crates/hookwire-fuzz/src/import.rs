//! Importing: whatever NetBox answers, what is written loads, as TOML and as JSON, and means the same.

use hookwire_config::{Config, Overrides, load};
use hookwire_netbox::{import, read_page};
use serde_json::Value;

pub(crate) fn run(text: &str) {
    let Ok(page) = read_page(text) else { return };
    let (rules, webhooks): (Vec<Value>, Vec<Value>) =
        page.items.into_iter().partition(|item| item.get("action_type").is_some());
    let Ok(imported) = import(&webhooks, &rules) else { return };
    // Files of certificates have to be there; everything else loads.
    if imported.definitions.webhooks.iter().any(|definition| definition.webhook.tls.ca_file.is_some()) {
        return;
    }
    let (toml, json) = (imported.definitions.to_toml(), imported.definitions.to_json());
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let loaded = [("netbox.toml", &toml), ("netbox.json", &json)].map(|(name, text)| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("there is room for a file");
        load(&[file], &|_| None, &Overrides::new()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    });
    let meaning = |config: &Config| {
        let webhooks = config.definitions.webhooks().map(|compiled| compiled.webhook().clone());
        (webhooks.collect::<Vec<_>>(), config.definitions.rules().cloned().collect::<Vec<_>>())
    };
    let expected = (
        imported.definitions.webhooks.iter().map(|definition| definition.webhook.clone()).collect::<Vec<_>>(),
        imported.definitions.event_rules.iter().map(|definition| definition.rule.clone()).collect::<Vec<_>>(),
    );
    for config in &loaded {
        assert_eq!(meaning(config), expected, "{toml}");
    }
}
