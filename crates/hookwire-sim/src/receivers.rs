//! The receivers: what they answer when, as their scripts say.
//!
//! Invariant: what a receiver saw is in the books before it answers; how the attempt ended is there before the worker
//! learns of it.

use std::sync::Arc;
use std::time::Duration;

use hookwire_dispatch::{AttemptOptions, AttemptReport, Dispatch};
use hookwire_model::{AttemptError, DeliveryId, EndpointId, ErrorKind, Outcome, PreparedRequest, Timings};
use tokio::time::sleep;

use crate::life::Life;
use crate::plan::{Asks, Behaviour};
use crate::world::{World, start};

/// The receivers, as one worker reaches them.
pub(crate) struct Receivers {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

/// What a receiver does with one request.
enum Reaction {
    Answer { after: Duration, status: u16, asks: Option<Asks> },
    Nothing { after: Duration, kind: ErrorKind },
    NotSent(ErrorKind),
    Panic,
}

/// An attempt on the wire. Dropped before it was told to the worker, it is cut off.
struct OnTheWire {
    world: Arc<World>,
    attempt: usize,
}

impl Drop for OnTheWire {
    fn drop(&mut self) {
        self.world.books().left_the_wire(self.attempt);
    }
}

impl Dispatch for Receivers {
    async fn attempt(&self, request: &PreparedRequest, options: &AttemptOptions) -> AttemptReport {
        self.life.step().await;
        let (target, receiver) = place(&request.authority.host);
        let webhook = &self.world.plan.targets[target].webhook.name;
        let endpoint = EndpointId::derive(webhook, &request.authority);
        let header = |name| {
            let value = request.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
            value.unwrap_or_default()
        };
        let id: DeliveryId = header("webhook-id").parse().expect("every request carries its delivery's id");
        let number: u32 = header("webhook-attempt").parse().expect("every request carries its number");
        let attempt = self.world.books().attempt_begins(self.life.number, id, number, endpoint, target);
        let on_the_wire = OnTheWire { world: Arc::clone(&self.world), attempt };
        let started = self.world.now();
        let reaction = self.react(target, receiver, endpoint);
        let mut asked = None;
        let outcome = match reaction {
            Reaction::Answer { after, status, asks } if after < options.timeout => {
                sleep(after).await;
                asked = asks;
                Outcome::Answered { status, retry_after: asks.map(|asks| self.retry_after(asks)) }
            }
            Reaction::Nothing { after, kind } if after < options.timeout => {
                sleep(after).await;
                Outcome::Unanswered(error(kind))
            }
            Reaction::Answer { .. } | Reaction::Nothing { .. } => {
                sleep(options.timeout).await;
                Outcome::Unanswered(error(ErrorKind::Timeout))
            }
            Reaction::NotSent(kind) => Outcome::Unsent(error(kind)),
            Reaction::Panic => {
                self.world.books().panics(attempt);
                // Unlike `panic!`, this is not printed.
                std::panic::resume_unwind(Box::new("the simulation says so"))
            }
        };
        self.world.books().attempt_ends(attempt, &outcome, asked);
        self.life.step().await;
        self.world.books().attempt_told(attempt);
        drop(on_the_wire);
        AttemptReport {
            outcome,
            late_error: None,
            address: None,
            hops: Vec::new(),
            timings: Timings::default(),
            response: None,
            duration: self.world.now().saturating_sub(started),
        }
    }
}

impl Receivers {
    fn react(&self, target: usize, receiver: usize, endpoint: EndpointId) -> Reaction {
        let millis = Duration::from_millis;
        let mut chance = self.world.chance();
        let after = millis(chance.u64(0..50));
        match self.world.behaviour(target, receiver) {
            Behaviour::Healthy { millis: most } => {
                Reaction::Answer { after: millis(chance.u64(0..=most)), status: 200, asks: None }
            }
            Behaviour::Slow { least, most } => {
                Reaction::Answer { after: millis(chance.u64(least..most)), status: 204, asks: None }
            }
            Behaviour::Status { status, asks } => Reaction::Answer { after, status, asks },
            Behaviour::Flaky { percent, status } => {
                let status = if chance.u8(..100) < percent { status } else { 202 };
                Reaction::Answer { after, status, asks: None }
            }
            Behaviour::Limited { per_second, asks } => {
                drop(chance);
                let status = match self.world.books().recent(endpoint) > per_second as usize {
                    true => 429,
                    false => 200,
                };
                Reaction::Answer { after, status, asks: asks.filter(|_| status == 429) }
            }
            Behaviour::Silent => Reaction::Nothing { after: Duration::MAX, kind: ErrorKind::Timeout },
            Behaviour::Unanswered(kind) => Reaction::Nothing { after, kind },
            Behaviour::Unsent(kind) => Reaction::NotSent(kind),
            Behaviour::Panic => Reaction::Panic,
        }
    }

    fn retry_after(&self, asks: Asks) -> String {
        match asks {
            Asks::Seconds(seconds) => seconds.to_string(),
            Asks::Date(ahead) => {
                let at = start().saturating_add(self.world.now() + Duration::from_secs(ahead));
                http_date(at.as_secs())
            }
        }
    }
}

/// Which webhook and which of its receivers a host stands for: `w2-1.test`.
fn place(host: &str) -> (usize, usize) {
    let mut numbers = host.trim_start_matches('w').trim_end_matches(".test").split('-');
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    next().zip(next()).expect("the plan's hosts are a letter and two numbers")
}

fn error(kind: ErrorKind) -> AttemptError {
    AttemptError { kind, message: "the simulation says so".into() }
}

/// A time of November 2023 as HTTP writes it: the simulation begins on the 14th and never lasts for days.
fn http_date(seconds: i64) -> String {
    const MIDNIGHT_OF_THE_14TH: i64 = 1_699_920_000;
    let since = seconds - MIDNIGHT_OF_THE_14TH;
    let (day, second) = (since / 86_400, since % 86_400);
    let weekday = ["Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon"][day as usize % 7];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {:02} Nov 2023 {hour:02}:{minute:02}:{second:02} GMT", 14 + day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date(start().as_secs()), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(http_date(start().as_secs() + 7_200), "Wed, 15 Nov 2023 00:13:20 GMT");
    }

    #[test]
    fn a_host_names_its_place() {
        assert_eq!(place("w12-1.test"), (12, 1));
    }
}
