//! `hookwire migrate`: what is pending in one store goes into another.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hookwire_config::{Settings, StoreUrl};
use hookwire_engine::{MigrateError, Migrated, migrate};
use hookwire_worker::{
    CommandResult, ConfigArguments, Exit, Failure, Store, open_store, print, runtime, say,
};

use crate::output::{Format, counted, json};
use crate::target::is_in_use;

/// How often it is told how far it has come.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// The store that is left, as in store.url. It is not changed; whoever publishes to it or works on it must be stopped
    /// before.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The store that goes on, as in store.url. Workers may be at work on it.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Files and folders with settings of the stores beside their URLs (TOML or JSON).
    #[arg(long, short, env = "HOOKWIRE_CONFIG", value_name = "PATH")]
    config: Vec<PathBuf>,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let config = ConfigArguments::of_paths(arguments.config.clone());
    let from = config.load_for_store("--from", &arguments.from)?;
    let to = config.load_for_store("--to", &arguments.to)?;
    if from.store.url.name() == to.store.url.name() {
        return Err(Failure::message(Exit::Usage, "--from and --to name the same store"));
    }
    runtime()?.block_on(async {
        let from_store = open_existing(&from).await?;
        let to_store = match open(&to, "--to").await {
            Ok(store) => store,
            Err(failure) => {
                from_store.close().await;
                return Err(failure);
            }
        };
        let mut told = Instant::now();
        let migrated = migrate(&from_store, &to_store, |so_far| {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                say(format_args!("{} so far", counted(so_far.events, "event")));
            }
        });
        let migrated = migrated.await;
        from_store.close().await;
        to_store.close().await;
        tell(arguments, &from, &migrated.map_err(failure)?)
    })
}

/// Opens the store that is left; one that is not there is not made.
async fn open_existing(settings: &Settings) -> Result<Store, Failure> {
    if let StoreUrl::Embedded(folder) = &settings.store.url
        && !folder.is_dir()
    {
        let message = format!("--from: there is no store at {}", folder.display());
        return Err(Failure::message(Exit::Unavailable, message));
    }
    open(settings, "--from").await
}

async fn open(settings: &Settings, flag: &str) -> Result<Store, Failure> {
    if settings.store.url == StoreUrl::Memory {
        let message = format!("{flag}: the store memory: is gone with its process; name another");
        return Err(Failure::message(Exit::Usage, message));
    }
    let opened = open_store(settings, Duration::ZERO).await;
    opened.map_err(|failure| match is_in_use(&failure) {
        true => failure.context(format!("{flag}: stop the server that has this store")),
        false => failure.context(flag.to_owned()),
    })
}

fn failure(error: MigrateError) -> Failure {
    let message = error.to_string();
    match error {
        MigrateError::AtWork { .. } | MigrateError::Changed => Failure::message(Exit::Unavailable, message),
        MigrateError::From(source) | MigrateError::To(source) => Failure::from(source).context(message),
    }
}

fn tell(arguments: &Arguments, from: &Settings, migrated: &Migrated) -> CommandResult {
    if arguments.format == Format::Json {
        print(&json(migrated))?;
        return Ok(Exit::Fine);
    }
    let Migrated { events, waiting, dead, new, endpoints } = *migrated;
    print(&format!(
        "{} with {} and {}: {new} copied, {} there already\nstates of {} copied",
        counted(events, "event"),
        counted(waiting, "waiting delivery"),
        counted(dead, "dead letter"),
        events - new,
        counted(endpoints, "endpoint"),
    ))?;
    if events > 0 {
        let from = &from.store.url;
        say(format_args!("{from} still has them: start nothing on it again, else they are sent twice"));
    }
    Ok(Exit::Fine)
}
