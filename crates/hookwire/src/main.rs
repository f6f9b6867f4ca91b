//! `hookwire`: the operator's tool and the all-in-one server. One file per command.

// `say` and `print` end no program where standard error or output cannot be written.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod client;
mod commands;
mod events;
mod output;
mod progress;
mod select;
mod table;
mod target;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use hookwire_worker::{CommandResult, LogArguments, WorkerArguments};

/// Every delivery makes some sixty small allocations, which it serves in three quarters of the system allocator's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Change events in, webhooks out, reliably.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    log: LogArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything at once, to try it: store, server, worker and receiver, with a sample event.
    Dev(commands::dev::Arguments),
    /// Takes events over HTTP and sends their webhooks.
    Serve(commands::serve::Arguments),
    /// Only sends: the same as hookwire-worker.
    Worker(WorkerArguments),
    /// Publishes events from files or standard input.
    Publish(commands::publish::Arguments),
    /// Checks definitions, templates and settings.
    Check(commands::check::Arguments),
    /// Shows the configuration in force, or its schema.
    Config(commands::config::Arguments),
    /// Shows what would be sent for an event, without sending.
    Preview(commands::preview::Arguments),
    /// Shows why each rule matches an event, or does not.
    Explain(commands::explain::Arguments),
    /// Takes definitions over from elsewhere.
    Import(commands::import::Arguments),
    /// Lists deliveries, shows one, sends them again or takes them back.
    Deliveries(commands::deliveries::Arguments),
    /// Lists dead letters, sends them again or removes them.
    Dead(commands::dead::Arguments),
    /// Lists endpoints with their health; pauses, resumes and probes them.
    Endpoints(commands::endpoints::Arguments),
    /// Copies what is pending from one store to another.
    Migrate(commands::migrate::Arguments),
    /// Tells how much waits, runs, failed and is kept.
    Stats(commands::stats::Arguments),
    /// Measures hookwire on this machine, as ratios to a bare client.
    Bench(commands::bench::Arguments),
    /// Prints a script that completes commands in a shell.
    Completions(commands::completions::Arguments),
    /// Prints the manual page, or writes the pages of all commands.
    Man(commands::man::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    hookwire_worker::main(move || run(arguments))
}

fn run(arguments: Arguments) -> CommandResult {
    match &arguments.command {
        Command::Dev(_) => arguments.log.start_with(commands::dev::LOG)?,
        Command::Bench(_) => arguments.log.start_with(commands::bench::LOG)?,
        _ => arguments.log.start()?,
    }
    match &arguments.command {
        Command::Dev(arguments) => commands::dev::run(arguments),
        Command::Serve(arguments) => commands::serve::run(arguments),
        Command::Worker(arguments) => hookwire_worker::run(arguments),
        Command::Publish(arguments) => commands::publish::run(arguments),
        Command::Check(arguments) => commands::check::run(arguments),
        Command::Config(arguments) => commands::config::run(arguments),
        Command::Preview(arguments) => commands::preview::run(arguments),
        Command::Explain(arguments) => commands::explain::run(arguments),
        Command::Import(arguments) => commands::import::run(arguments),
        Command::Deliveries(arguments) => commands::deliveries::run(arguments),
        Command::Dead(arguments) => commands::dead::run(arguments),
        Command::Endpoints(arguments) => commands::endpoints::run(arguments),
        Command::Migrate(arguments) => commands::migrate::run(arguments),
        Command::Stats(arguments) => commands::stats::run(arguments),
        Command::Bench(arguments) => commands::bench::run(arguments),
        Command::Completions(arguments) => commands::completions::run(arguments, Arguments::command()),
        Command::Man(arguments) => commands::man::run(arguments, Arguments::command()),
    }
}
