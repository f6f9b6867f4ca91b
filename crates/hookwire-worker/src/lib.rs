//! The worker alone: takes deliveries from the queue and sends them.
//!
//! What this program shares with `hookwire` is here as a library: the choice of backend, exit codes, signals, logs, and
//! putting an engine together.

// `say` and `print` end no program where standard error or output cannot be written.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod assemble;
mod exit;
mod logging;
mod reload;
mod say;
mod signals;
mod store;
mod watch;
mod worker;

pub use args::{ConfigArguments, environment, load_failure, misspelt_variables, render};
pub use assemble::{
    api, bind, egress_refusal, engine_failure, in_force, new_event_id, open_store, own_store,
    refused_addresses, run_worker, runtime,
};
pub use exit::{CommandResult, Exit, Failure, main};
pub use logging::{LogArguments, LogFormat, is_coloured};
pub use reload::{LoadedConfig, Reloading};
pub use say::{print, say};
pub use signals::shutdown_token;
pub use store::Store;
pub use worker::{WorkerArguments, run};
