//! Which deliveries a command means, and acting on them.
//!
//! Invariant: what a filter selects is counted before anything is done with it, and done only when a person at the
//! terminal or `--yes` says so.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use hookwire_model::{DeliveryId, DeliveryState, EndpointId, EventId, RuleName, WebhookName};
use hookwire_queue::{Change, DeliveryFilter, Selection};
use hookwire_worker::{CommandResult, Exit, Failure, print, say};

use crate::output::{Format, counted, json};
use crate::target::{Changed, Target, TargetArguments};

/// A filter of deliveries.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FilterArguments {
    /// Only those to this webhook.
    #[arg(long, value_name = "NAME", value_parser = WebhookName::new)]
    webhook: Option<WebhookName>,
    /// Only those under this rule.
    #[arg(long, value_name = "NAME", value_parser = RuleName::new)]
    rule: Option<RuleName>,
    /// Only those at this endpoint: ep_...
    #[arg(long, value_name = "ID")]
    endpoint: Option<EndpointId>,
    /// Only those of this event.
    #[arg(long, value_name = "ID", value_parser = EventId::new)]
    event_id: Option<EventId>,
}

/// A filter by state.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StateArguments {
    /// Only those in this state.
    #[arg(long, value_parser = states())]
    state: Option<DeliveryState>,
}

impl FilterArguments {
    /// The filter, in a state.
    pub(crate) fn with_state(&self, state: Option<DeliveryState>) -> DeliveryFilter {
        let FilterArguments { webhook, rule, endpoint, event_id } = self.clone();
        DeliveryFilter { state, webhook, rule, endpoint, event_id }
    }
}

impl StateArguments {
    pub(crate) fn state(&self) -> Option<DeliveryState> {
        self.state
    }
}

fn states() -> impl clap::builder::TypedValueParser<Value = DeliveryState> {
    PossibleValuesParser::new(DeliveryState::ALL.iter().map(|state| state.as_str()))
        .try_map(|word| word.parse::<DeliveryState>())
}

/// What a command that acts takes besides a state.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ActArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Ids of deliveries: dlv_...; what is named one by one is acted on without asking.
    #[arg(value_name = "ID", conflicts_with_all = ["webhook", "rule", "endpoint", "event_id", "all"])]
    ids: Vec<DeliveryId>,
    #[command(flatten)]
    filter: FilterArguments,
    /// All of them, without a filter.
    #[arg(long, conflicts_with_all = ["webhook", "rule", "endpoint", "event_id"])]
    all: bool,
    /// Does not ask before it acts on what a filter selects.
    #[arg(long, short)]
    yes: bool,
    /// Only counts.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// How many ids go into one call: far below any limit on a request.
const IDS: usize = 1000;

impl ActArguments {
    /// Acts on what is meant.
    pub(crate) async fn run(&self, change: Change, state: Option<DeliveryState>) -> CommandResult {
        let filter = self.filter.with_state(state);
        let none = filter == DeliveryFilter::default();
        if !self.ids.is_empty() && state.is_some() {
            return Err(usage("--state goes with a filter, not with ids"));
        }
        if self.all && state.is_some() {
            return Err(usage("--all means every one: leave it out, or --state"));
        }
        if self.ids.is_empty() && none && !self.all {
            return Err(usage("which ones? give ids, a filter such as --webhook NAME, or --all"));
        }
        if let Some(state) = state
            && !change.applies_to(state)
        {
            let (fits, done) = (fitting_words(change), done(change));
            return Err(usage(format!("--state {state}: such deliveries cannot be {done}; {fits} ones can")));
        }
        let target = self.target.find().await?;
        let ended = if self.ids.is_empty() {
            self.by_filter(&target, change, filter).await
        } else {
            self.by_ids(&target, change).await
        };
        target.close().await;
        ended
    }

    /// Whoever names each one needs not be asked.
    async fn by_ids(&self, target: &Target, change: Change) -> CommandResult {
        let mut all = Changed { dry_run: self.dry_run, ..Changed::default() };
        for ids in self.ids.chunks(IDS) {
            let changed = target.change(change, &Selection::Ids(ids.to_vec()), self.dry_run).await?;
            all.changed += changed.changed;
            all.unknown.extend(changed.unknown);
            all.unfit.extend(changed.unfit);
        }
        for id in &all.unknown {
            say(format_args!("{id}: no delivery has this id, or it is no longer kept"));
        }
        for unfit in &all.unfit {
            let fits = fitting_words(change);
            say(format_args!(
                "{}: it is {}; only {fits} ones can be {}",
                unfit.id,
                unfit.state,
                done(change)
            ));
        }
        self.tell(target, change, &all)?;
        Ok(if all.unknown.is_empty() && all.unfit.is_empty() { Exit::Fine } else { Exit::No })
    }

    async fn by_filter(&self, target: &Target, change: Change, filter: DeliveryFilter) -> CommandResult {
        let mut states = Vec::new();
        let mut counted_first = Changed { dry_run: true, ..Changed::default() };
        // By state, because sending dead letters again is one thing and sending what was delivered is another.
        for state in fitting(change).filter(|state| filter.state.is_none_or(|only| only == *state)) {
            let filter = DeliveryFilter { state: state_for(change, state), ..filter.clone() };
            let count = target.change(change, &Selection::Filter(filter), true).await?.changed;
            counted_first.changed += count;
            if count > 0 {
                states.push(format!("{count} {state}"));
            }
        }
        counted_first.dry_run = self.dry_run || counted_first.changed > 0;
        let what = match (change, filter.state) {
            (Change::Retry | Change::Cancel, None) if !states.is_empty() => {
                format!("{} ({})", things(change, counted_first.changed), states.join(", "))
            }
            _ => things(change, counted_first.changed),
        };
        if self.dry_run && self.format == Format::Text {
            print(&format!("{what} would be {}", done(change)))?;
            return Ok(Exit::Fine);
        }
        if self.dry_run || counted_first.changed == 0 {
            self.tell(target, change, &counted_first)?;
            return Ok(Exit::Fine);
        }
        if !self.yes {
            let asked = io::stdin().is_terminal() && io::stderr().is_terminal();
            if !asked {
                say(format_args!("{what} would be {}; nothing was done: add --yes to do it", done(change)));
                if self.format == Format::Json {
                    print(&json(&counted_first))?;
                }
                return Ok(Exit::Usage);
            }
            if !confirmed(&format!("{what} will be {}. Go on? [y/N] ", done(change)))? {
                say("nothing was done");
                return Ok(Exit::No);
            }
        }
        let changed = target.change(change, &Selection::Filter(filter), false).await?;
        self.tell(target, change, &changed)?;
        Ok(Exit::Fine)
    }

    fn tell(&self, target: &Target, change: Change, changed: &Changed) -> Result<(), Failure> {
        if self.format == Format::Json {
            return print(&json(changed));
        }
        let things = things(change, changed.changed);
        match (change, changed.dry_run) {
            (_, true) => print(&format!("{things} would be {}", done(change)))?,
            // Sending is up to a worker, and may fail again.
            (Change::Retry, false) => print(&format!("{things} queued to be sent again"))?,
            (_, false) => print(&format!("{things} {}", done(change)))?,
        }
        let waits =
            !changed.dry_run && changed.changed > 0 && matches!(change, Change::Retry | Change::Redrive);
        if waits && !target.is_server() {
            say(
                "no server runs: they are sent by the next `hookwire serve` or `hookwire worker --until-idle`",
            );
        }
        Ok(())
    }
}

/// The states in which a change does anything.
fn fitting(change: Change) -> impl Iterator<Item = DeliveryState> {
    DeliveryState::ALL.iter().copied().filter(move |state| change.applies_to(*state))
}

/// The same in words.
fn fitting_words(change: Change) -> String {
    let words: Vec<_> = fitting(change).map(DeliveryState::as_str).collect();
    match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => words.concat(),
    }
}

/// What acts on dead letters takes no state.
fn state_for(change: Change, state: DeliveryState) -> Option<DeliveryState> {
    match change {
        Change::Retry | Change::Cancel => Some(state),
        Change::Redrive | Change::Purge => None,
    }
}

fn things(change: Change, count: u64) -> String {
    match (change, count) {
        (Change::Retry | Change::Cancel, 1) => "1 delivery".to_owned(),
        (Change::Retry | Change::Cancel, count) => format!("{count} deliveries"),
        (Change::Redrive | Change::Purge, count) => counted(count, "dead letter"),
    }
}

fn done(change: Change) -> &'static str {
    match change {
        Change::Retry => "sent again",
        Change::Cancel => "cancelled",
        Change::Redrive => "redriven",
        Change::Purge => "purged",
    }
}

fn confirmed(question: &str) -> Result<bool, Failure> {
    let unanswered = |error| Failure::new(Exit::Usage, error);
    io::stderr().write_all(question.as_bytes()).and_then(|()| io::stderr().flush()).map_err(unanswered)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(unanswered)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::message(Exit::Usage, message.into())
}
