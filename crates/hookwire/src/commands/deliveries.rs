//! `hookwire deliveries`: what waits, ran and failed.

use clap::Subcommand;
use hookwire_model::{Delivery, DeliveryId, EndpointId, EventId, RuleName, Shard, WebhookName};
use hookwire_queue::{DeliveryFilter, Inspect as _, Queue as _};
use hookwire_worker::{CommandResult, Exit, Failure, Store, runtime};

use crate::output::{Format, delivery_table, delivery_text, print};
use crate::target::{Target, TargetArguments};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Lists deliveries, newest first.
    List(List),
    /// Shows one delivery with its attempts.
    Show(Show),
}

#[derive(Debug, Clone, clap::Args)]
struct List {
    #[command(flatten)]
    target: TargetArguments,
    /// Only those in this state: waiting, running, delivered, dead, cancelled, superseded.
    #[arg(long)]
    state: Option<String>,
    /// Only those to this webhook.
    #[arg(long)]
    webhook: Option<String>,
    /// Only those under this rule.
    #[arg(long)]
    rule: Option<String>,
    /// Only those at this endpoint.
    #[arg(long)]
    endpoint: Option<String>,
    /// Only those of this event.
    #[arg(long)]
    event_id: Option<String>,
    /// How many at most.
    #[arg(long, default_value = "50")]
    limit: usize,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, clap::Args)]
struct Show {
    #[command(flatten)]
    target: TargetArguments,
    /// The delivery's id: dlv_...
    id: String,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    runtime()?.block_on(async {
        match &arguments.command {
            Command::List(list) => list.run().await,
            Command::Show(show) => show.run().await,
        }
    })
}

impl List {
    async fn run(&self) -> CommandResult {
        let filter = self.filter()?;
        let (items, next_cursor) = match self.target.find().await? {
            Target::Server(client) => {
                let page = client.deliveries(&self.query())?;
                (page.items, page.next_cursor)
            }
            Target::Store(store) => {
                let listed = list(&store, &filter, self.limit).await;
                store.close().await;
                listed?
            }
        };
        match self.format {
            Format::Json => {
                let page = serde_json::json!({ "items": items, "next_cursor": next_cursor });
                print(&serde_json::to_string_pretty(&page).expect("strings and numbers always serialise"));
            }
            Format::Text if items.is_empty() => print("no deliveries"),
            Format::Text => {
                print(&delivery_table(&items));
                if next_cursor.is_some() {
                    eprintln!("there are more; --limit shows more of them");
                }
            }
        }
        Ok(Exit::Fine)
    }

    fn filter(&self) -> Result<DeliveryFilter, Failure> {
        fn read<T, E: std::fmt::Display>(
            flag: &str,
            text: &Option<String>,
            parse: impl Fn(&str) -> Result<T, E>,
        ) -> Result<Option<T>, Failure> {
            let value = text.as_deref().map(parse).transpose();
            value.map_err(|error| Failure::message(Exit::Usage, format!("--{flag}: {error}")))
        }
        Ok(DeliveryFilter {
            state: read("state", &self.state, str::parse)?,
            webhook: read("webhook", &self.webhook, WebhookName::new)?,
            rule: read("rule", &self.rule, RuleName::new)?,
            endpoint: read("endpoint", &self.endpoint, str::parse::<EndpointId>)?,
            event_id: read("event-id", &self.event_id, EventId::new)?,
        })
    }

    fn query(&self) -> String {
        let members = [
            ("state", &self.state),
            ("webhook", &self.webhook),
            ("rule", &self.rule),
            ("endpoint", &self.endpoint),
            ("event_id", &self.event_id),
        ];
        let mut query = format!("limit={}", self.limit);
        for (name, value) in members {
            if let Some(value) = value {
                query += &format!("&{name}={}", percent_encoded(value));
            }
        }
        query
    }
}

impl Show {
    async fn run(&self) -> CommandResult {
        let id: DeliveryId = self.id.parse().map_err(|error| {
            Failure::new(Exit::Usage, anyhow::Error::new::<hookwire_model::IdError>(error))
        })?;
        let delivery = match self.target.find().await? {
            Target::Server(client) => client.delivery(&self.id)?,
            Target::Store(store) => {
                let found = store.delivery(id).await;
                store.close().await;
                let unknown = || {
                    Failure::message(
                        Exit::No,
                        format!("no delivery has the id {id}, or it is no longer kept"),
                    )
                };
                found?.ok_or_else(unknown)?
            }
        };
        match self.format {
            Format::Json => {
                print(
                    &serde_json::to_string_pretty(&delivery).expect("strings and numbers always serialise"),
                );
            }
            Format::Text => print(&delivery_text(&delivery)),
        }
        Ok(Exit::Fine)
    }
}

async fn list(
    store: &Store,
    filter: &DeliveryFilter,
    limit: usize,
) -> Result<(Vec<Delivery>, Option<String>), Failure> {
    let mut items = Vec::new();
    for shard in (0..store.shards()).rev() {
        let page = store.list(Shard(shard), filter, None, limit - items.len()).await?;
        items.extend(page.items);
        if items.len() >= limit {
            let next = page.next.map(|next| next.to_string());
            return Ok((items, next));
        }
    }
    Ok((items, None))
}

/// RFC 3986 section 2.1, for a value in a query.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}
