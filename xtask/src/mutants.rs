//! `cargo xtask mutants`: makes deliberate mistakes, one at a time, and sees whether the simulation finds them.
//!
//! The mistakes are data, in `tests/mutants.toml`. They are made in a copy of the project under `target/mutants`, which
//! keeps what it built for the next time.
//!
//! Invariants:
//! - The project's own files are never changed.
//! - A mistake that does not compile is an error, not a find.
//! - Before the mistakes, the copy runs without any: a simulation that finds something there says nothing about them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::run::{cargo, root};

/// Where the mistakes stand.
const LIST: &str = "tests/mutants.toml";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only those whose names contain this.
    name: Option<String>,
    /// How many seeds the simulation may take to find each.
    #[arg(long, default_value_t = 500, value_name = "N")]
    seeds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// One mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// What is wrong then, in a sentence.
    means: String,
    file: PathBuf,
    /// What stands in the file exactly once.
    old: String,
    new: String,
}

impl Mutant {
    /// The file with the mistake in it.
    fn apply(&self, root: &Path) -> anyhow::Result<String> {
        let text = fs::read_to_string(root.join(&self.file))
            .with_context(|| format!("{LIST}: {:?}: {} cannot be read", self.name, self.file.display()))?;
        let found = text.matches(&self.old).count();
        ensure!(
            found == 1,
            "{LIST}: {:?}: `old` stands {found} times in {}, and should once; bring it up to date",
            self.name,
            self.file.display()
        );
        ensure!(self.old != self.new, "{LIST}: {:?}: `old` and `new` are the same", self.name);
        Ok(text.replace(&self.old, &self.new))
    }
}

fn list(root: &Path) -> anyhow::Result<Vec<Mutant>> {
    let text = fs::read_to_string(root.join(LIST)).with_context(|| format!("{LIST} cannot be read"))?;
    Ok(toml::from_str::<List>(&text).with_context(|| format!("{LIST} is not as it should be"))?.mutant)
}

/// Complains about each mistake that could not be made.
pub(crate) fn check(complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let root = root();
    for mutant in list(&root)? {
        if let Err(error) = mutant.apply(&root) {
            complaints.push(error.to_string());
        }
    }
    Ok(())
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = root();
    let wanted = |mutant: &Mutant| arguments.name.as_ref().is_none_or(|name| mutant.name.contains(name));
    let mutants: Vec<Mutant> = list(&root)?.into_iter().filter(wanted).collect();
    ensure!(!mutants.is_empty(), "{LIST} has no mistake of that name");
    let place = root.join("target/mutants");
    let copy = place.join("copy");
    copy_project(&root, &copy)?;
    if let Some(found) = simulate(&copy, &place, arguments.seeds)? {
        bail!("the simulation breaks rules without any mistake:\n{found}");
    }
    let mut missed = Vec::new();
    for mutant in &mutants {
        let file = copy.join(&mutant.file);
        let whole = fs::read_to_string(&file)?;
        fs::write(&file, mutant.apply(&copy)?)?;
        let found = simulate(&copy, &place, arguments.seeds);
        fs::write(&file, whole)?;
        match found.with_context(|| format!("{:?} cannot be tried", mutant.name))? {
            Some(found) => println!("{}: found. {}", mutant.name, found.trim()),
            None => {
                println!("{}: MISSED. {}", mutant.name, mutant.means);
                missed.push(mutant.name.as_str());
            }
        }
    }
    ensure!(
        missed.is_empty(),
        "{} of {} mistakes were missed: {}",
        missed.len(),
        mutants.len(),
        missed.join(", ")
    );
    println!("all {} mistakes were found", mutants.len());
    Ok(())
}

/// Brings the copy up to date; what is the same keeps its time, so that it is not built again.
fn copy_project(root: &Path, copy: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .output()
        .context("git cannot be started; the project's files are listed by it")?;
    ensure!(
        listed.status.success(),
        "git cannot list the project's files: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let names = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    let mut kept = HashSet::new();
    for name in names.split_terminator('\0') {
        let (from, to) = (root.join(name), copy.join(name));
        // Removed, and git was not told yet.
        let Ok(bytes) = fs::read(&from) else { continue };
        kept.insert(to.clone());
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        let folder = to.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder)?;
        fs::write(&to, bytes)?;
    }
    remove_others(copy, &kept)
}

fn remove_others(folder: &Path, kept: &HashSet<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Builds the simulation of the copy and runs it until it finds something: which seed, and which rule it breaks.
fn simulate(copy: &Path, place: &Path, seeds: u32) -> anyhow::Result<Option<String>> {
    let built = place.join("target");
    // What is wrong on purpose may well look wrong to the compiler, too.
    let mut build = cargo(&["build", "--locked", "--quiet", "-p", "hookwire-sim"]);
    build.current_dir(copy).env("CARGO_TARGET_DIR", &built).env("RUSTFLAGS", "--cap-lints=allow");
    let output = build.output().context("cargo cannot be started")?;
    ensure!(output.status.success(), "it does not compile:\n{}", String::from_utf8_lossy(&output.stderr));
    let mut run = Command::new(built.join("debug/hookwire-sim"));
    run.current_dir(copy).args(["--seeds", &seeds.to_string(), "--failures", "1"]);
    let output = run.output().context("the simulation cannot be started")?;
    if output.status.success() {
        return Ok(None);
    }
    // `seed 7 breaks these rules:`, and the rules below it, one a line.
    let told = String::from_utf8_lossy(&output.stdout);
    let mut lines = told.lines().skip_while(|line| !(line.starts_with("seed ") && line.contains("breaks")));
    let (seed, rule) = (lines.next(), lines.next());
    let (Some(seed), Some(rule)) = (seed, rule) else {
        bail!(
            "the simulation ended with {} and names no seed:\n{told}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    };
    Ok(Some(format!("{seed} {}", rule.trim())))
}
