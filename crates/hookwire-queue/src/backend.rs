//! What the backends written in Rust share, for those who write another: what settling and acting make of a delivery,
//! reading the attempts that are stored, the leases of a process, waking up those who wait, and the clock.
//!
//! Users of a queue need none of this.

mod clock;
mod leases;
mod record;
mod wake;

pub use clock::{ManualClock, StoreClock, system_clock};
pub use leases::{Held, Leases};
pub use record::{Acted, EventHead, Record};
pub use wake::Wake;

pub use crate::attempt::unpack_attempts;

use hookwire_model::Timestamp;

/// The version of an endpoint's record that takes the place of one with this version; 0: there is none (N1).
pub fn next_endpoint_version(before: u64, now: Timestamp) -> u64 {
    match before {
        0 => u64::try_from(now.as_micros() / 1000).unwrap_or_default().max(1),
        before => before + 1,
    }
}
