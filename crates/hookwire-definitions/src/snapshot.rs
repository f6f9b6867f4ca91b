//! The snapshot of all definitions, and what an event becomes under them.
//!
//! Invariants:
//! - Rules and webhooks stand in the order of the definitions; routes come in it, and the same every time.
//! - The template context of an event is made once for all rules without `action_data`.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hookwire_model::{Event, EventRule, RuleName, TemplateContext, Webhook, WebhookName};
use hookwire_rules::{CompiledRules, EvaluationError, Explanation, Reason, RuleIndex};
use rustc_hash::FxHashMap;

use crate::error::Kind;
use crate::{CompiledWebhook, DefinitionError, Place, Refused};

/// All definitions, compiled. Without any it is `Definitions::default()`, under which no event becomes
/// anything.
#[derive(Debug)]
pub struct Definitions {
    pub(crate) rules: CompiledRules,
    /// By rule: where its deliveries go.
    pub(crate) targets: Vec<Vec<Target>>,
    webhooks: Vec<Arc<CompiledWebhook>>,
    by_name: FxHashMap<WebhookName, usize>,
    rules_by_name: FxHashMap<RuleName, RuleIndex>,
    /// What is wrong with rules that never match because of it.
    pub(crate) unsound: FxHashMap<RuleIndex, DefinitionError>,
    /// All rules in the order of the definitions, refused ones among them.
    pub(crate) order: Vec<RuleSlot>,
    /// What is wrong with definitions that are disabled.
    disabled_problems: Vec<DefinitionError>,
    fingerprint: OnceLock<u64>,
}

/// A text of which only the hash is wanted.
struct Fingerprint(DefaultHasher);

impl fmt::Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// A webhook that a rule names.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: WebhookName,
    /// What is wrong with it, if it cannot be used.
    pub(crate) webhook: Result<Arc<CompiledWebhook>, Box<DefinitionError>>,
}

#[derive(Debug)]
pub(crate) enum RuleSlot {
    Compiled(RuleIndex),
    Refused(Refused),
}

/// One delivery that an event becomes.
#[derive(Debug, Clone)]
pub struct Route {
    /// The rule that matched.
    pub rule: RuleName,
    /// The webhook it goes to. A disabled one is among the routes: its deliveries wait.
    pub webhook: Arc<CompiledWebhook>,
    /// What the webhook's templates see.
    pub context: Arc<TemplateContext>,
}

/// What an event becomes.
#[derive(Debug, Default)]
pub struct FanOut {
    /// A delivery for each, in the order of the definitions.
    pub routes: Vec<Route>,
    /// Rules whose condition could not be evaluated, and which therefore did not match.
    pub errors: Vec<(RuleName, Arc<EvaluationError>)>,
}

impl Default for Definitions {
    fn default() -> Self {
        Definitions::compile(Vec::new(), Vec::new()).expect("without definitions nothing is wrong with them")
    }
}

impl Definitions {
    /// Compiles webhooks and rules.
    ///
    /// # Errors
    /// Every problem there is: in the order of the definitions, webhooks first.
    pub fn compile(webhooks: Vec<Webhook>, rules: Vec<EventRule>) -> Result<Self, Vec<DefinitionError>> {
        let webhooks = webhooks.into_iter().map(Ok).collect();
        let (definitions, errors) = Self::compile_sound(webhooks, rules.into_iter().map(Ok).collect());
        if errors.is_empty() { Ok(definitions) } else { Err(errors) }
    }

    /// Compiles those that are sound, and tells what is wrong with the others: for previews and explanations.
    /// Nothing should be delivered by a snapshot with errors.
    ///
    /// The errors are those found here; those of definitions that were refused before are known already.
    pub fn compile_sound(
        webhooks: Vec<Result<Webhook, Refused>>,
        rules: Vec<Result<EventRule, Refused>>,
    ) -> (Self, Vec<DefinitionError>) {
        let mut errors = Vec::new();
        let mut disabled_problems = Vec::new();
        let mut table = WebhookTable::default();
        for (position, webhook) in webhooks.into_iter().enumerate() {
            table.add(position, webhook, &mut errors, &mut disabled_problems);
        }
        let mut sound = Vec::new();
        let mut order = Vec::new();
        // By compiled rule: its place among all.
        let mut positions = Vec::new();
        for (position, rule) in rules.into_iter().enumerate() {
            match rule {
                Ok(rule) => {
                    positions.push(position);
                    sound.push(rule);
                    order.push(None);
                }
                Err(refused) => order.push(Some(refused)),
            }
        }
        let (rules, rule_errors) = CompiledRules::compile_sound(sound);
        let mut rule_errors = rule_errors.into_iter().peekable();
        let mut targets = Vec::with_capacity(rules.len());
        let mut rules_by_name = FxHashMap::default();
        let mut unsound = FxHashMap::default();
        for ((index, rule), position) in rules.rules().zip(&positions) {
            let place = Place::rule(*position, rule.name.as_str());
            if rules_by_name.insert(rule.name.clone(), index).is_some() {
                let place = Place { member: Some("name"), ..place.clone() };
                errors.push(twice(place, "event rule"));
            }
            // They come in the order of the rules.
            while let Some(error) = rule_errors.next_if(|error| error.position == index.get()) {
                let error = DefinitionError::condition(place.clone(), error);
                if rule.enabled {
                    unsound.insert(index, error.clone());
                    errors.push(error);
                } else {
                    disabled_problems.push(error);
                }
            }
            targets.push(table.targets(rule, &place, &mut errors));
        }
        let mut compiled = rules.rules().map(|(index, _)| index);
        let order = order.into_iter().filter_map(|refused| match refused {
            Some(refused) => Some(RuleSlot::Refused(refused)),
            None => compiled.next().map(RuleSlot::Compiled),
        });
        let order = order.collect();
        drop(compiled);
        let WebhookTable { webhooks, by_name, .. } = table;
        let definitions = Definitions {
            rules,
            targets,
            webhooks,
            by_name,
            rules_by_name,
            unsound,
            order,
            disabled_problems,
            fingerprint: OnceLock::new(),
        };
        (definitions, errors)
    }

    /// What is wrong with definitions that are disabled: templates that do not compile, conditions that cannot be
    /// evaluated. They keep nobody from working with the rest, and must be mended before they are enabled.
    pub fn disabled_problems(&self) -> &[DefinitionError] {
        &self.disabled_problems
    }

    /// The webhook of this name.
    pub fn webhook(&self, name: &WebhookName) -> Option<&Arc<CompiledWebhook>> {
        self.by_name.get(name).map(|index| &self.webhooks[*index])
    }

    /// All webhooks, in order.
    pub fn webhooks(&self) -> impl Iterator<Item = &Arc<CompiledWebhook>> {
        self.webhooks.iter()
    }

    /// All event rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &EventRule> {
        self.rules.rules().map(|(_, rule)| rule)
    }

    /// What an event becomes: a delivery for each rule that matches and each webhook it names.
    pub fn fan_out(&self, event: &Arc<Event>) -> FanOut {
        let matches = self.rules.matching(event);
        let mut fan_out = FanOut::default();
        let mut plain = None;
        for index in matches.rules {
            let rule = self.rules.rule(index);
            let context = if rule.action_data.is_empty() {
                Arc::clone(plain.get_or_insert_with(|| self.context(event, rule)))
            } else {
                self.context(event, rule)
            };
            for target in &self.targets[index.get()] {
                if let Ok(webhook) = &target.webhook {
                    fan_out.routes.push(Route {
                        rule: rule.name.clone(),
                        webhook: Arc::clone(webhook),
                        context: Arc::clone(&context),
                    });
                }
            }
        }
        let errors = matches.errors.into_iter();
        fan_out.errors = errors.map(|(index, error)| (self.rules.rule(index).name.clone(), error)).collect();
        fan_out
    }

    /// Whether any rule is about events of this type, of objects of that type: else they become nothing, and need not be
    /// read.
    pub fn any_about(&self, object_type: &str, matched_type: &str) -> bool {
        self.rules.any_about(object_type, matched_type)
    }

    /// The deliveries an event becomes; [`fan_out`](Self::fan_out) also tells which rules could not say.
    pub fn routes(&self, event: &Arc<Event>) -> Vec<Route> {
        self.fan_out(event).routes
    }

    /// The way of a delivery that was made before, with the definitions in force now. `None` if there is no
    /// such webhook any more. A rule that is gone leaves the delivery without its `action_data`.
    pub fn route(&self, event: &Arc<Event>, rule: &RuleName, webhook: &WebhookName) -> Option<Route> {
        let webhook = Arc::clone(self.webhook(webhook)?);
        let context = match self.rules_by_name.get(rule) {
            Some(index) => self.context(event, self.rules.rule(*index)),
            None => Arc::new(TemplateContext::new(Arc::clone(event), &Default::default())),
        };
        Some(Route { rule: rule.clone(), webhook, context })
    }

    /// Why each rule matches an event, or does not; refused rules among them, at their places.
    pub fn explain(&self, event: &Arc<Event>) -> Vec<Explanation> {
        let explanations = self.order.iter().filter_map(|slot| match slot {
            RuleSlot::Compiled(index) => Some(self.rules.explain_rule(*index, event)),
            RuleSlot::Refused(refused) => {
                let message = refused.errors.first().map_or_else(String::new, ToString::to_string);
                let kind = hookwire_rules::ConditionErrorKind::InvalidCondition;
                Some(Explanation {
                    // A rule without a name that can be shown is told of by its error alone.
                    rule: RuleName::new(&refused.name).ok()?,
                    matched: false,
                    reason: Some(Reason::ConditionError),
                    tree: None,
                    error: Some(EvaluationError { kind, path: String::new(), message }),
                    detail: None,
                })
            }
        });
        explanations.collect()
    }

    /// The smallest number of attempts that may be in flight at one endpoint, over all webhooks; at least 1.
    pub fn concurrency_min(&self) -> u32 {
        let each = self.webhooks.iter().map(|webhook| webhook.webhook().concurrency.get());
        each.min().unwrap_or(1)
    }

    /// How long attempts in flight need at most until they are over and recorded: the longest timeout of all webhooks,
    /// and a second.
    pub fn grace(&self) -> Duration {
        let timeouts = self.webhooks.iter().map(|webhook| webhook.webhook().timeout);
        timeouts.max().unwrap_or_default() + Duration::from_secs(1)
    }

    /// A number that tells these definitions from others, without their secrets. Processes of the same version that work
    /// on one store can be compared by it: an event is decided by the definitions of whichever takes it.
    pub fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| {
            let mut text = Fingerprint(DefaultHasher::new());
            let webhooks = self.webhooks.iter().map(|webhook| webhook.webhook());
            // Hashing takes whatever is written.
            let _ = webhooks.into_iter().try_for_each(|webhook| write!(text, "{webhook:?}"));
            let _ = self.rules().try_for_each(|rule| write!(text, "{rule:?}"));
            text.0.finish()
        })
    }

    pub(crate) fn context(&self, event: &Arc<Event>, rule: &EventRule) -> Arc<TemplateContext> {
        Arc::new(TemplateContext::new(Arc::clone(event), &rule.action_data))
    }
}

/// The webhooks, sound and not, while rules are given their targets.
#[derive(Default)]
struct WebhookTable {
    webhooks: Vec<Arc<CompiledWebhook>>,
    by_name: FxHashMap<WebhookName, usize>,
    unsound: FxHashMap<String, DefinitionError>,
    /// All of them, in order, for messages.
    names: Vec<String>,
}

impl WebhookTable {
    fn add(
        &mut self,
        position: usize,
        webhook: Result<Webhook, Refused>,
        errors: &mut Vec<DefinitionError>,
        disabled_problems: &mut Vec<DefinitionError>,
    ) {
        let webhook = match webhook {
            Ok(webhook) => webhook,
            Err(Refused { name, errors }) => {
                self.names.push(name.clone());
                self.unsound.extend(errors.into_iter().next().map(|error| (name, error)));
                return;
            }
        };
        let name = webhook.name.clone();
        let place = Place::webhook(position, name.as_str());
        if self.by_name.contains_key(&name) || self.unsound.contains_key(name.as_str()) {
            let place = Place { member: Some("name"), ..place };
            errors.push(twice(place, "webhook"));
            return;
        }
        self.names.push(name.as_str().to_owned());
        match CompiledWebhook::compile(webhook, &place) {
            Ok(webhook) => {
                let problems = webhook.problems().iter().cloned();
                disabled_problems
                    .extend(problems.map(|error| DefinitionError::template(place.clone(), error)));
                self.by_name.insert(name, self.webhooks.len());
                self.webhooks.push(Arc::new(webhook));
            }
            Err(found) => {
                self.unsound.extend(found.first().map(|error| (name.as_str().to_owned(), error.clone())));
                errors.extend(found);
            }
        }
    }

    /// Where a rule's deliveries go.
    fn targets(&self, rule: &EventRule, place: &Place, errors: &mut Vec<DefinitionError>) -> Vec<Target> {
        let mut targets = Vec::with_capacity(rule.webhooks.len());
        for (at, name) in rule.webhooks.iter().enumerate() {
            let place = || Place { member: Some("webhooks"), pointer: format!("/{at}"), ..place.clone() };
            if rule.webhooks[..at].contains(name) {
                let message = format!("the webhook \"{name}\" is named twice");
                errors.push(
                    DefinitionError::new(place(), Kind::Duplicate, message)
                        .remedy("one delivery is made to each; leave one of them out"),
                );
                continue;
            }
            let webhook = match (self.by_name.get(name), self.unsound.get(name.as_str())) {
                (Some(index), _) => Ok(Arc::clone(&self.webhooks[*index])),
                (None, Some(error)) => Err(Box::new(error.clone())),
                (None, None) => {
                    let error = self.unknown(name, place());
                    errors.push(error.clone());
                    Err(Box::new(error))
                }
            };
            targets.push(Target { name: name.clone(), webhook });
        }
        targets
    }

    fn unknown(&self, name: &WebhookName, place: Place) -> DefinitionError {
        let error = DefinitionError::new(place, Kind::Reference, format!("there is no webhook \"{name}\""));
        let near = self.names.iter().map(|have| (strsim::jaro_winkler(have, name.as_str()), have));
        match near.filter(|(likeness, _)| *likeness > 0.8).max_by(|(a, _), (b, _)| a.total_cmp(b)) {
            Some((_, have)) => error.remedy(format!("did you mean \"{have}\"?")),
            None if self.names.is_empty() => error.remedy("define it under [[webhooks]]"),
            None => error.remedy(format!("there are: {}", listed(&self.names))),
        }
    }
}

fn twice(place: Place, what: &str) -> DefinitionError {
    let message = format!("there is another {what} of this name");
    DefinitionError::new(place, Kind::Duplicate, message).remedy("names are unique; rename one of them")
}

/// Some names, for a message.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, ... ({} in all)", names.len()) } else { shown }
}
