//! Shows the HTTP requests that arrive, as they were sent; answers slowly or badly when asked to.
//!
//! This is the library under the program `webhook_receiver`: [`Listeners::bind`] takes a port, [`serve`] prints each
//! request to a writer and answers it. It speaks HTTP/1.0 and HTTP/1.1 by itself, because the usual servers lower-case
//! header names, and what is shown here must be what was sent.
//!
//! Invariants:
//! - A request is printed, whole and flushed, before it is answered: whoever got an answer is on the screen.
//! - Requests are numbered from 1 in the order in which they are printed; output of two requests never mixes.
//! - Memory is bounded: connections, heads, single bodies, all bodies together and remembered ids each have a limit
//!   ([`Limits`]).
//! - What is printed cannot drive the terminal: control characters never reach it.
//!
//! Absences: it stores nothing, forwards nothing, opens no connection, and reads the clock only through the function
//! that [`serve`] is given.

mod connection;
mod indent;
mod listen;
mod options;
mod script;
mod seen;
mod serve;
mod show;
mod verdict;
mod wire;

pub use listen::{Listeners, banner};
pub use options::{Format, Limits, Options};
pub use script::{Answer, AnswerHeader, BadAnswerHeader, BadScript, Script};
pub use serve::serve;
