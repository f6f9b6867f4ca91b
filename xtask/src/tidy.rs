//! `cargo xtask tidy`: what reviewers would otherwise repeat.
//!
//! - Arrows between crates point up the list in [`CRATES`] only.
//! - Every crate has a description, which opens its `lib.rs`, and takes its lints from the workspace.
//! - Every source file begins with `//!`.
//! - Pure crates use no clock, no chance and no I/O.
//! - Every library crate has a README and an example.
//! - Every deliberate mistake of `tests/mutants.toml` can still be made.
//! - Pages made of the code's tables are up to date, and links between our pages lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use toml::Table;

use crate::run::root;
use crate::{docs, mutants};

/// What a crate of the workspace may depend on, besides crates from outside.
struct Crate {
    name: &'static str,
    uses: &'static [&'static str],
    /// Plain functions: no clock, no chance, no I/O, no async.
    pure: bool,
}

/// Every crate, each below those that it may use. A new arrow is a design decision: it is made here.
const CRATES: &[Crate] = &[
    Crate { name: "hookwire-json", uses: &[], pure: true },
    Crate { name: "hookwire-model", uses: &["hookwire-json"], pure: true },
    Crate { name: "hookwire-rules", uses: &["hookwire-json", "hookwire-model"], pure: true },
    Crate { name: "hookwire-jinja", uses: &["hookwire-json"], pure: true },
    Crate {
        name: "hookwire-template",
        uses: &["hookwire-json", "hookwire-model", "hookwire-jinja"],
        pure: true,
    },
    Crate { name: "hookwire-policy", uses: &["hookwire-model"], pure: true },
    Crate {
        name: "hookwire-definitions",
        uses: &["hookwire-model", "hookwire-rules", "hookwire-template", "hookwire-policy"],
        pure: true,
    },
    Crate {
        name: "hookwire-netbox",
        uses: &["hookwire-model", "hookwire-rules", "hookwire-template", "hookwire-definitions"],
        pure: true,
    },
    Crate { name: "hookwire-queue", uses: &["hookwire-model"], pure: false },
    Crate { name: "hookwire-queue-embedded", uses: &["hookwire-model", "hookwire-queue"], pure: false },
    Crate { name: "hookwire-queue-redis", uses: &["hookwire-model", "hookwire-queue"], pure: false },
    Crate { name: "hookwire-dispatch", uses: &["hookwire-model"], pure: false },
    Crate { name: "hookwire-config", uses: &["hookwire-model", "hookwire-definitions"], pure: false },
    Crate {
        name: "hookwire-engine",
        uses: &[
            "hookwire-model",
            "hookwire-policy",
            "hookwire-definitions",
            "hookwire-queue",
            "hookwire-dispatch",
        ],
        pure: false,
    },
    Crate {
        name: "hookwire-server",
        uses: &[
            "hookwire-model",
            "hookwire-rules",
            "hookwire-definitions",
            "hookwire-queue",
            "hookwire-engine",
        ],
        pure: false,
    },
    Crate { name: "webhook_receiver", uses: &["hookwire-policy", "hookwire-model"], pure: false },
];

/// These compose: they may use any crate, and no crate uses them but the ones named.
const COMPOSERS: &[&str] = &[
    "hookwire",
    "hookwire-worker",
    "hookwire-bench",
    "hookwire-sim",
    "hookwire-fuzz",
    "hookwire-testkit",
    "integration",
    "xtask",
];

/// What a pure crate may not name, and why.
const IMPURE: &[(&str, &str)] = &[
    ("SystemTime::now", "take the time as an argument"),
    ("Instant::now", "take the time as an argument"),
    ("Timestamp::now", "take the time as an argument"),
    ("Zoned::now", "take the time as an argument"),
    ("fastrand::", "take chance as an argument"),
    ("rand::", "take chance as an argument"),
    ("std::fs", "a pure crate does no I/O"),
    ("std::net::Tcp", "a pure crate does no I/O"),
    ("std::process", "a pure crate does no I/O"),
    ("std::env::", "a pure crate does not read the environment"),
    ("tokio", "a pure crate knows nothing of async"),
    ("async fn", "a pure crate knows nothing of async"),
    ("println!", "a pure crate prints nothing"),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    let root = root();
    let mut folders: Vec<PathBuf> = fs::read_dir(root.join("crates"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    folders.extend([root.join("xtask"), root.join("tests")]);
    folders.sort();
    for folder in &folders {
        check_crate(folder, &mut complaints)
            .with_context(|| format!("{} cannot be checked", folder.display()))?;
    }
    for page in files(&root, "md")? {
        docs::check_links(&page, &mut complaints)?;
    }
    docs::check(&mut complaints)?;
    mutants::check(&mut complaints)?;
    if complaints.is_empty() {
        eprintln!("tidy: {} crates, nothing to complain about", folders.len());
        return Ok(());
    }
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    bail!("tidy has {} complaints", complaints.len());
}

fn check_crate(folder: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let manifest: Table = fs::read_to_string(folder.join("Cargo.toml"))?.parse()?;
    let package =
        manifest.get("package").and_then(|value| value.as_table()).context("a manifest has [package]")?;
    let name = package.get("name").and_then(|value| value.as_str()).context("a package has a name")?;
    let description = package.get("description").and_then(|value| value.as_str()).unwrap_or_default();
    if description.is_empty() {
        complaints.push(format!("{name}: its manifest has no description"));
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints.and_then(|value| value.as_bool()) != Some(true) {
        complaints.push(format!("{name}: its manifest lacks `[lints] workspace = true`"));
    }
    check_arrows(name, &manifest, complaints);
    let listed = CRATES.iter().find(|listed| listed.name == name);
    if let Some(listed) = listed {
        let lib = folder.join("src/lib.rs");
        let opens = fs::read_to_string(&lib).unwrap_or_default();
        if !opens.starts_with(&format!("//! {description}")) {
            complaints.push(format!(
                "{name}: lib.rs does not open with the manifest's description, \"{description}\""
            ));
        }
        for (what, there) in [
            ("README.md", folder.join("README.md").exists()),
            ("an example", folder.join("examples").exists()),
        ] {
            // A binary's README is the project's, and its example is running it.
            if !there && name != "webhook_receiver" {
                complaints.push(format!("{name}: lacks {what}, which every library crate has"));
            }
        }
        if listed.pure {
            for file in files(&folder.join("src"), "rs")? {
                check_pure(&file, complaints)?;
            }
        }
    } else if !COMPOSERS.contains(&name) {
        complaints.push(format!("{name}: not in xtask's list of crates; add it, with the crates it may use"));
    }
    for file in files(folder, "rs")? {
        let text = fs::read_to_string(&file)?;
        if !text.starts_with("//!") && !text.starts_with("#!") {
            complaints
                .push(format!("{}: begins without `//!`, which says what the file is for", file.display()));
        }
    }
    Ok(())
}

fn check_arrows(name: &str, manifest: &Table, complaints: &mut Vec<String>) {
    let Some(listed) = CRATES.iter().find(|listed| listed.name == name) else { return };
    let dependencies = manifest.get("dependencies").and_then(|value| value.as_table());
    for dependency in dependencies.into_iter().flat_map(Table::keys) {
        let ours =
            CRATES.iter().any(|other| other.name == dependency) || COMPOSERS.contains(&dependency.as_str());
        if ours && !listed.uses.contains(&dependency.as_str()) {
            complaints
                .push(format!("{name}: may not use {dependency}; it may use {}", listed.uses.join(", ")));
        }
    }
}

fn check_pure(file: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let text = fs::read_to_string(file)?;
    // Tests may do what they like.
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (word, remedy) in IMPURE {
            if names(code, word) {
                complaints.push(format!(
                    "{}:{}: `{word}` in a pure crate: {remedy}",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
    Ok(())
}

/// Whether code names a word, rather than a longer one that ends with it: `Operand::` is not `rand::`.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// All files below a folder with this ending, in order.
fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                if !["target", "fixtures", "corpus", ".git"].iter().any(|other| name == *other) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_word_is_not_the_word() {
        assert!(names("let x = rand::random();", "rand::"));
        assert!(!names("Operand::Value", "rand::"));
        assert!(names("(rand::x, Operand::Value)", "rand::"));
    }

    #[test]
    fn an_arrow_that_points_down_is_told() {
        let manifest: Table =
            "[dependencies]\nhookwire-engine.workspace = true\nserde = \"1\"".parse().unwrap();
        let mut complaints = Vec::new();
        check_arrows("hookwire-queue", &manifest, &mut complaints);
        assert_eq!(complaints, ["hookwire-queue: may not use hookwire-engine; it may use hookwire-model"]);
    }
}
