//! `hookwire-worker`: the same as `hookwire worker`.

use std::process::ExitCode;

use clap::Parser;
use hookwire_worker::{LogArguments, WorkerArguments};

/// Every delivery makes some sixty small allocations, which it serves in three quarters of the system allocator's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes deliveries from the queue and sends them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    log: LogArguments,
    #[command(flatten)]
    worker: WorkerArguments,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    hookwire_worker::main(move || {
        arguments.log.start()?;
        hookwire_worker::run(&arguments.worker)
    })
}
