//! The scripts: one for each atomic step, with what they share before it.
//!
//! Invariant: a script is called by its hash; a server that does not know it is sent the text, and knows it from then on.

use std::sync::LazyLock;

/// A script and its hash.
pub(crate) struct Script {
    pub(crate) source: String,
    pub(crate) sha: String,
}

impl Script {
    fn new(parts: &[&str]) -> Self {
        let source = parts.concat();
        let sha = sha1_smol::Sha1::from(&source).digest().to_string();
        Script { source, sha }
    }
}

/// Declares scripts; each file in the list comes before the next.
macro_rules! scripts {
    ($($name:ident: $($file:literal),+;)+) => {
        $(
            pub(crate) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new(&[$(include_str!(concat!("scripts/", $file, ".lua"))),+]));
        )+

        #[cfg(test)]
        const ALL: &[(&str, &LazyLock<Script>)] = &[$((stringify!($name), &$name)),+];
    };
}

scripts! {
    PUBLISH: "base", "runs", "publish_new", "entries", "record", "history", "publish";
    LEASE_EVENTS: "base", "runs", "lease_runs", "entries", "record", "history", "lease_events";
    LEASE_DELIVERIES: "base", "entries", "record", "lease_deliveries";
    EXTEND: "base", "entries", "record", "extend";
    SETTLE: "base", "settle_blocks", "entries", "record", "history", "settle";
    EXPIRE: "base", "entries", "record", "expire";
    HOLD: "base", "entries", "record", "hold";
    CHANGE: "base", "entries", "record", "change";
    TEND: "base", "entries", "record", "history", "tend";
    WALK: "base", "entries", "record", "rows", "walk";
    SHOW: "base", "entries", "record", "rows", "show";
    SCAN: "base", "entries", "record", "history", "rows", "scan";
    FIND: "base", "entries", "record", "history", "find";
    STATS: "base", "entries", "record", "history", "stats";
    PUT_ENDPOINT: "base", "entries", "record", "put_endpoint";
    RESTORE: "base", "runs", "entries", "record", "history", "restore";
    CLOSE: "base", "entries", "record", "history", "close";
    BEGIN: "base", "entries", "record", "begin";
    OPEN: "base", "entries", "record", "open";
    KNOWN: "base", "entries", "record", "history", "known";
    OLDER: "base", "entries", "record", "older";
    LAYOUT: "layout";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_script_is_another() {
        let hashes: BTreeSet<_> = ALL.iter().map(|(_, script)| &script.sha).collect();
        assert_eq!(hashes.len(), ALL.len());
    }

    #[test]
    fn no_script_turns_a_number_into_text_by_joining() {
        // `..` keeps 14 digits; whatever may be larger goes through `text`.
        for (name, script) in ALL {
            for line in script.source.lines() {
                for number in [
                    "now ..",
                    ".. now",
                    "seq ..",
                    ".. seq",
                    ".. M.leased_to",
                    ".. M.history_from",
                    ".. M.token",
                ] {
                    assert!(!line.contains(number), "{name}: {line}");
                }
            }
        }
    }
}
