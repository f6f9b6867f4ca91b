//! What the backends written in Rust share, for those who write another: what settling and acting make of a delivery,
//! the form in which attempts are stored, the leases of a process, waking up those who wait, and the clock.
//!
//! Users of a queue need none of this.

mod attempt;
mod clock;
mod leases;
mod record;
mod wake;

pub use attempt::{pack_attempt, unpack_attempts, write_attempt};
pub use clock::{ManualClock, StoreClock, system_clock};
pub use leases::{Held, Leases};
pub use record::{Acted, EventHead, Record};
pub use wake::Wake;
