//! Files and environment become settings and definitions, checked once; every mistake is told with its place.
//!
//! [`load`] reads one file, or a folder of them, in TOML or JSON; environment variables and flags override
//! settings. It gives a [`Config`] or everything that is wrong with it, which [`Diagnostics::render`] shows
//! with the lines of the files.
//!
//! Invariants:
//! - Nothing is ignored: an unknown member is an error, and so is one that is known and cannot be used yet
//!   ([`NOT_YET`]).
//! - What exists is checked: [`Settings`] and definitions that contradict themselves or each other do not
//!   come out of here.
//! - Secrets never show in a message or in `Debug`.
//!
//! Absences: this crate reads no global environment (it is given a function), watches no files, and starts
//! nothing.

mod define;
mod excerpt;
mod json_tree;
mod load;
mod mask;
mod members;
mod not_yet;
mod page;
mod problem;
mod read;
mod report;
mod schema;
mod settings;
mod show;
mod syntax;
mod toml_tree;
mod tree;
mod units;

pub use load::{Config, config_files, load, load_sound, load_to_look};
pub use members::{MemberInfo, MemberKind, RETRY_MEMBERS, RULE_MEMBERS, WEBHOOK_MEMBERS};
pub use not_yet::{NOT_YET, NotYet};
pub use page::settings_page;
pub use report::{DiagnosticView, Diagnostics, LoadError, Style};
pub use schema::schema;
pub use settings::{
    EgressMode, EgressSettings, HistorySettings, Overrides, SETTINGS, ServerSettings, SettingInfo,
    SettingKind, Settings, StoreSettings, StoreTls, StoreUrl, WorkerSettings, meant_variable,
};
pub use show::{Origin, Shown, ShownDefinition, ShownValue, show};

/// The README's example is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
