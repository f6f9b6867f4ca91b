//! Tests of the crate's surface, one binary.

mod corpus;
mod escaping;
mod handlebars;
mod limits;
mod netbox;
mod support;
mod webhook;
