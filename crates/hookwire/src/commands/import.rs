//! `hookwire import netbox`: NetBox's webhooks and event rules become definitions.
//!
//! Invariants:
//! - A file that is there already is replaced only with `--force`, and by a rename: nobody ever reads half of it.
//! - A file with secrets in it is readable by its owner alone, from the moment it exists.
//! - NetBox's token is sent to the URL that was given, and nowhere else.

mod fetch;
mod output;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hookwire_netbox::{PageError, import, read_page};
use hookwire_worker::{CommandResult, Exit, Failure, say};
use serde_json::Value;

use fetch::{NetBox, Options};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum From {
    /// Takes webhooks and event rules over from NetBox 3.7 or later, and lists what differs here.
    Netbox(NetboxArguments),
}

#[derive(Debug, Clone, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).multiple(true).args(["webhooks", "event_rules", "url"]))]
struct NetboxArguments {
    /// The answer to /api/extras/webhooks/, or an array of its objects; - for standard input.
    #[arg(long, value_name = "FILE", requires = "event_rules")]
    webhooks: Option<PathBuf>,
    /// The answer to /api/extras/event-rules/, or an array of its objects.
    #[arg(long, value_name = "FILE", requires = "webhooks")]
    event_rules: Option<PathBuf>,
    // No doc comment: rustdoc would want the address as a link.
    #[arg(long, help = "Asks this NetBox instead, such as https://netbox.example.org", value_name = "URL", conflicts_with_all = ["webhooks", "event_rules"], requires = "token_env")]
    url: Option<String>,
    /// The environment variable that holds the API token, of either kind. Its user needs to see webhooks and event
    /// rules.
    #[arg(long, value_name = "NAME", requires = "url")]
    token_env: Option<String>,
    /// PEM file with the authorities to trust for NetBox's certificate, in place of the system's.
    #[arg(long, value_name = "FILE", requires = "url")]
    ca_file: Option<PathBuf>,
    /// Does not check NetBox's certificate: whoever sits in between can read the token and all secrets.
    #[arg(long, requires = "url", conflicts_with = "ca_file")]
    insecure_skip_verify: bool,
    /// How long NetBox may take for one page, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Where to write: a file that ends in .toml or .json, a folder for webhooks.toml and event_rules.toml, or - for
    /// standard output.
    #[arg(long, short, value_name = "PATH", default_value = "-")]
    output: PathBuf,
    /// Replaces files that are there already.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let From::Netbox(arguments) = &arguments.from;
    // What cannot be written is told before NetBox is asked.
    let targets = output::targets(&arguments.output, arguments.force)?;
    let (webhooks, rules) = match (&arguments.url, &arguments.webhooks, &arguments.event_rules) {
        (Some(url), _, _) => from_url(arguments, url)?,
        (None, Some(webhooks), Some(rules)) => (from_file(webhooks)?, from_file(rules)?),
        (None, _, _) => unreachable!("clap asks for a source, and for both files"),
    };
    let imported = import(&webhooks, &rules).map_err(|error| Failure::new(Exit::Data, error))?;
    targets.write(&imported.definitions, arguments.force)?;
    for finding in &imported.findings {
        say(finding);
    }
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (webhooks, rules) = (imported.definitions.webhooks.len(), imported.definitions.event_rules.len());
    say(format_args!(
        "imported {} and {}; {} above",
        count(webhooks, "webhook"),
        count(rules, "event rule"),
        count(imported.findings.len(), "remark")
    ));
    if let Some(config) = targets.config() {
        say(format_args!("next: hookwire check --config {}", config.display()));
    }
    Ok(Exit::Fine)
}

fn from_file(path: &Path) -> Result<Vec<Value>, Failure> {
    let text = read_text(path)?;
    let page = read_page(&text).map_err(|error| bad_page(&path.display().to_string(), error))?;
    if page.next.is_some() {
        let message = format!(
            "{} is one page of several; ask NetBox with ?limit=0, or use --url, which takes all pages",
            path.display()
        );
        return Err(Failure::message(Exit::Data, message));
    }
    Ok(page.items)
}

/// The text of a file, or of standard input for `-`.
fn read_text(path: &Path) -> Result<String, Failure> {
    let read = match path == Path::new("-") {
        true => std::io::read_to_string(std::io::stdin().lock()),
        false => std::fs::read_to_string(path),
    };
    read.map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::InvalidData { Exit::Data } else { Exit::NoInput };
        Failure::new(exit, anyhow::Error::new(error).context(format!("{} cannot be read", path.display())))
    })
}

fn bad_page(name: &str, error: PageError) -> Failure {
    Failure::new(Exit::Data, anyhow::Error::new(error).context(format!("{name} is no list of NetBox's")))
}

fn from_url(arguments: &NetboxArguments, url: &str) -> Result<(Vec<Value>, Vec<Value>), Failure> {
    let variable = arguments.token_env.as_deref().unwrap_or_default();
    let netbox = NetBox::new(&Options {
        url,
        token_env: variable,
        ca_file: arguments.ca_file.as_deref(),
        skip_verify: arguments.insecure_skip_verify,
        timeout: Duration::from_secs(arguments.timeout),
    })?;
    Ok((netbox.list("webhooks")?, netbox.list("event-rules")?))
}
