//! What the crate promises, from the outside.

mod corpus;
mod laws;
mod limits;
mod place;
mod python;
mod refusals;
mod strict;

use hookwire_jinja::{Error, Limits, Options, Template, Undefined, root, view};
use serde_json::Value as Json;

const LENIENT: Options = Options {
    undefined: Undefined::Lenient,
    limits: Limits {
        fuel: 1_000_000,
        output_bytes: 4 << 20,
        source_bytes: 256 << 10,
        recursion: 200,
        nesting: 64,
    },
};

fn context(json: &Json) -> minijinja::Value {
    let members = json.as_object().expect("the context is an object");
    root(members.iter().map(|(name, value)| (name.as_str(), view(value))))
}

fn render(template: &str, json: &Json, options: &Options) -> Result<String, Error> {
    Template::compile(template, options)?.render(&context(json))
}
