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
