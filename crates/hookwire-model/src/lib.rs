//! The words of hookwire as types: events, rules, conditions, webhooks, deliveries, attempts.
//!
//! An **event** says that an object was created, updated or deleted; it never changes. An **event rule** selects
//! events, by object type, event type and **condition**, and names **webhooks**: definitions of where and how to send.
//! **Fan-out** turns one event into one **delivery** per matching rule and webhook: the promise to get that event to
//! that webhook. Each HTTP request made for it is an **attempt**, and how an attempt ended is its **outcome**. A webhook
//! together with the authority its URL rendered to is an **endpoint**, the unit of health, room, rate and backlog. A
//! delivery that gets no more attempts by itself is a **dead letter**.
//!
//! Invariants:
//! - A constructor refuses a bad value by name; a value that exists is valid, and later code need not check again.
//! - JSON that is passed on keeps the text of its numbers and the order of its members.
//! - A secret never shows in `Debug`.
//!
//! Absences: this crate does no I/O, never reads the clock, draws no random numbers, and knows nothing of async.

mod condition;
mod context;
mod delivery;
mod event;
mod id;
mod request;
mod rule;
mod time;
mod webhook;

pub use condition::{
    CONDITION_DEPTH_MAX, Condition, ConditionError, Operand, Operator, Subject, Test, is_context_path,
};
pub use context::{CONTEXT_MEMBERS, Member, TemplateContext};
pub use delivery::{
    Attempt, AttemptError, DeadReason, Delivery, DeliveryState, ErrorKind, Hop, InvalidWord, Outcome,
    OutcomeKind, RequestRecord, ResponseRecord, Timings, WaitingReason,
};
pub use event::{Event, EventDefaults, EventError, Peeked, Problem, short_event_name};
pub use id::{DeliveryId, EndpointId, EventId, IdError, RuleName, Sequence, Shard, WebhookName};
pub use request::{Authority, HeaderText, PreparedRequest, wire_name};
pub use rule::{EventPattern, EventRule, ObjectPattern, ObjectType, PatternError};
pub use time::{EventTime, TimeError, Timestamp};
pub use webhook::{
    DefaultBody, Engine, Escape, Method, OnFailure, Ordering, RateLimit, RetryPolicy, Schedule, Secret,
    SignatureScheme, Tls, Undefined, ValueError, Webhook,
};
