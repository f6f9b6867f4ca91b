//! The engine with the memory queue, a scripted dispatcher and tokio's paused clock: no time passes but what the test or
//! an idle runtime lets pass.

mod backlog;
mod endpoints;
mod flow;
mod migration;
mod order;
mod regressions;
mod shards;
mod troubled;
mod world;
