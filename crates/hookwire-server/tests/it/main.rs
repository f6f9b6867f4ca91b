//! The API over stores in memory, without a listener where none is needed: what each request is answered, and what came
//! of it in the store.

mod cloud_events;
mod definitions;
mod deliveries;
mod endpoints;
mod guard;
mod limits;
mod openapi;
mod publish;
mod store;
mod support;
