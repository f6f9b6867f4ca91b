//! What must hold for any bytes: the bodies of the fuzz targets, and their seeds.
//!
//! `fuzz/` hands these functions to libFuzzer for as long as anybody likes; a test of this crate hands them the seeds,
//! some thousands of mutations of them, and every input that once broke something, in a few seconds.
//!
//! Invariants:
//! - A target panics only if hookwire breaks a promise; that an input is refused is no fault.
//! - The same bytes do the same.

mod conditions;
mod events;
mod import;
mod mutate;
mod requests;
mod seeds;
mod templates;

pub use mutate::Mutator;
pub use seeds::{cases, seeds};

/// A fuzz target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An event, or any other JSON.
    Events,
    /// A condition document, then data and snapshots.
    Conditions,
    /// A Jinja template, then a context.
    Jinja,
    /// A Handlebars template, then a context.
    Handlebars,
    /// The text of additional headers.
    Headers,
    /// A URL.
    Urls,
    /// An answer of NetBox's REST API.
    Import,
}

impl Target {
    /// Every target.
    pub const ALL: [Target; 7] = [
        Target::Events,
        Target::Conditions,
        Target::Jinja,
        Target::Handlebars,
        Target::Headers,
        Target::Urls,
        Target::Import,
    ];

    /// The name of its program and of its folder of cases.
    pub fn name(self) -> &'static str {
        match self {
            Target::Events => "events",
            Target::Conditions => "conditions",
            Target::Jinja => "jinja",
            Target::Handlebars => "handlebars",
            Target::Headers => "headers",
            Target::Urls => "urls",
            Target::Import => "import",
        }
    }

    /// Does whatever the target does with this input; bytes that are no UTF-8 are replaced.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn run(self, input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        // NUL stands between the parts of an input, since templates and JSON hold every other character.
        let parts: Vec<&str> = text.splitn(3, '\0').collect();
        match self {
            Target::Events => events::run(&text),
            Target::Conditions => conditions::run(&parts),
            Target::Jinja => templates::run(hookwire_model::Engine::Jinja, &parts),
            Target::Handlebars => templates::run(hookwire_model::Engine::Handlebars, &parts),
            Target::Headers => requests::headers(&text),
            Target::Urls => requests::url(&text),
            Target::Import => import::run(&text),
        }
    }
}
