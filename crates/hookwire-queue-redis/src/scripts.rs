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
    PUBLISH: "base", "record", "history", "publish";
    LEASE_EVENTS: "base", "record", "history", "lease_events";
    LEASE_DELIVERIES: "base", "record", "lease_deliveries";
    EXTEND: "base", "record", "extend";
    SETTLE: "base", "record", "history", "settle";
    EXPIRE: "base", "record", "expire";
    HOLD: "base", "record", "hold";
    CHANGE: "base", "record", "change";
    TEND: "base", "record", "history", "tend";
    WALK: "base", "record", "rows", "walk";
    SHOW: "base", "record", "rows", "show";
    SCAN: "base", "record", "rows", "scan";
    FIND: "base", "record", "history", "find";
    STATS: "base", "record", "history", "stats";
    PUT_ENDPOINT: "base", "record", "put_endpoint";
    RESTORE: "base", "record", "history", "restore";
    CLOSE: "base", "record", "history", "close";
    BEGIN: "base", "record", "begin";
    OPEN: "base", "record", "open";
    KNOWN: "base", "record", "history", "known";
    OLDER: "base", "record", "older";
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
