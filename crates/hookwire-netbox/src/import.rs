//! NetBox's objects become definitions: the names first, since rules refer to webhooks by id.

use std::collections::HashSet;

use serde_json::Value;

use crate::finding::{Effect, Finding, Subject};
use crate::source::{self, ImportError, NetBoxRule, NetBoxWebhook};
use crate::{Definitions, all, rule, webhook};

/// What NetBox's definitions became.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The definitions.
    pub definitions: Definitions,
    /// What could not be carried over, or behaves differently: what concerns all first, then by definition.
    pub findings: Vec<Finding>,
}

/// Makes definitions of the objects of `/api/extras/webhooks/` and `/api/extras/event-rules/`, in their order.
///
/// # Errors
/// [`ImportError`] for the first object that lacks what every webhook or rule has.
pub fn import(webhooks: &[Value], event_rules: &[Value]) -> Result<Imported, ImportError> {
    let webhooks = webhooks.iter().enumerate().map(|(position, object)| source::webhook(position, object));
    let webhooks: Vec<NetBoxWebhook> = webhooks.collect::<Result<_, _>>()?;
    let rules = event_rules.iter().enumerate().map(|(position, object)| source::rule(position, object));
    let rules: Vec<NetBoxRule> = rules.collect::<Result<_, _>>()?;

    let mut findings = Vec::new();
    let mut definitions = Definitions::default();
    let mut names = Names::default();
    // By id and by NetBox's name: what each is called here.
    let mut called: Vec<(&NetBoxWebhook, String)> = Vec::new();
    for source in &webhooks {
        let name = names.take(&source.name, Subject::Webhook, &mut findings);
        definitions.webhooks.push(webhook::import(source, &name, &mut findings));
        called.push((source, name));
    }
    let mut names = Names::default();
    for source in &rules {
        let name = names.take(&source.name, Subject::Rule, &mut findings);
        let target = called.iter().find(|(webhook, _)| match (source.action_object_id, webhook.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => source.action_object_name.as_deref() == Some(webhook.name.as_str()),
        });
        let target = target.map(|(_, name)| name.as_str());
        definitions.event_rules.extend(rule::import(source, &name, target, &mut findings));
    }
    let tells_action_data = event_rules.iter().any(|rule| rule.get("action_data").is_some());
    let general = all::findings(&definitions, tells_action_data);
    definitions.heading = all::heading(&definitions, &general);
    let findings = general.into_iter().chain(findings).collect();
    Ok(Imported { definitions, findings })
}

/// The names that are taken.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// A name for a definition: NetBox's own, unless it cannot be one here or is taken.
    fn take(&mut self, wanted: &str, subject: fn(String) -> Subject, findings: &mut Vec<Finding>) -> String {
        // The rules for names are the same for webhooks and event rules.
        let fits = |name: &str| hookwire_model::RuleName::new(name).is_ok();
        let mut base = wanted.to_owned();
        if !fits(&base) {
            let shown: String = base.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            base = shown.trim().chars().take(40).collect::<String>().trim().to_owned();
            if base.is_empty() {
                base = "unnamed".into();
            }
        }
        let numbered = (2..).map(|number| {
            // A number must leave room for itself in the longest name.
            let head: String = base.chars().take(40).collect();
            format!("{} ({number})", head.trim())
        });
        let name = std::iter::once(base.clone()).chain(numbered).find(|name| !self.0.contains(name));
        let name = name.expect("there are more numbers than names");
        if name != wanted {
            let why = if fits(wanted) { "two have this name" } else { "such a name is not possible here" };
            let message = format!("it is called {wanted:?} in NetBox, and {why}");
            findings.push(Finding::new(subject(name.clone()), Effect::Differs, message));
        }
        self.0.insert(name.clone());
        name
    }
}
