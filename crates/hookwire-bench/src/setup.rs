//! Configurations, written to a file and loaded as anybody's are.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use hookwire_config::{Config, Overrides};
use serde_json::{Map, Value, json};

/// A configuration.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    webhooks: Vec<Value>,
    rules: Vec<Value>,
    settings: Map<String, Value>,
}

impl Setup {
    /// One webhook and the rule that sends to it.
    pub(crate) fn one(webhook: Value, rule: Value) -> Self {
        Setup::many(vec![webhook], vec![rule])
    }

    pub(crate) fn many(webhooks: Vec<Value>, rules: Vec<Value>) -> Self {
        Setup { webhooks, rules, settings: Map::new() }
    }

    /// Sets `section.name`; everything else keeps its default.
    pub(crate) fn set(mut self, section: &str, name: &str, value: impl Into<Value>) -> Self {
        let section = self.settings.entry(section).or_insert_with(|| json!({}));
        section[name] = value.into();
        self
    }

    /// Writes it into a folder, for a store.
    pub(crate) fn write(&self, folder: &Path, store: &str) -> anyhow::Result<PathBuf> {
        let Setup { webhooks, rules, settings } = self.clone().set("store", "url", store);
        let mut all = settings;
        all.insert("webhooks".to_owned(), webhooks.into());
        all.insert("event_rules".to_owned(), rules.into());
        let path = folder.join("hookwire.json");
        // In one step: a worker may be reading what was written for it.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(&all)?)?;
        file.persist(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The same, loaded.
    pub(crate) fn load(&self, folder: &Path, store: &str) -> anyhow::Result<Config> {
        let path = self.write(folder, store)?;
        // What is set for a real server has no place here.
        hookwire_config::load(&[path], &|_| None, &Overrides::new()).map_err(|error| anyhow!("{error:?}"))
    }
}
