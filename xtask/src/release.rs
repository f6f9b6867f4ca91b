//! `cargo xtask release`: builds the programs guided by a profile, which makes them a quarter faster.
//!
//! They are built twice: first so that they count what they do, and the bench has them do it; then with what was counted.
//! What the compiler learns is which code is used, and puts that together.
//!
//! Invariant: a profile's name tells its content, by which cargo sees that everything is to be built anew.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::redis;
use crate::run::{self, cargo, root};

/// What is built, from one set of features, so that the counts fit.
const PROGRAMS: [&str; 3] = ["hookwire", "hookwire-worker", "webhook_receiver"];
/// What the programs do to be counted: the ways of an event on both stores, and what goes wrong on them.
const SCENARIOS: [&str; 6] =
    ["throughput", "publish", "latency", "fanout", "noisy-refusing-redis", "noisy-slow-embedded"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Goes by what was counted the last time.
    #[arg(long)]
    again: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let compiler = Compiler::ask()?;
    let profdata = compiler.profdata()?;
    let folder = root().join("target/guided");
    if !arguments.again {
        redis::ensure_server()?;
        for old in profiles(&folder)? {
            std::fs::remove_file(&old).with_context(|| format!("{} cannot be removed", old.display()))?;
        }
        count(&compiler, &profdata, &folder)?;
    }
    let profile = profiles(&folder)?.pop().context("nothing was counted yet; leave out --again")?;
    run::run(compiler.build(&folder, &format!("-Cprofile-use={}", profile.display())))?;
    println!("{}", compiler.programs(&folder).display());
    Ok(())
}

/// Has the programs count what they do.
fn count(compiler: &Compiler, profdata: &Path, folder: &Path) -> anyhow::Result<()> {
    let (counting, counts) = (folder.join("counting"), folder.join("counts"));
    if counts.exists() {
        std::fs::remove_dir_all(&counts).context("old counts cannot be removed")?;
    }
    // Counting comes before optimisation over all crates, so it can do without.
    let mut build = compiler.build(&counting, &format!("-Cprofile-generate={}", counts.display()));
    build.env("CARGO_PROFILE_RELEASE_LTO", "off");
    run::run(build)?;
    eprintln!(
        "counting what the programs do, which makes them slow: the figures say nothing about their speed"
    );
    let mut bench = Command::new(compiler.programs(&counting).join("hookwire"));
    bench.current_dir(root()).args(["bench", "--quick"]).args(SCENARIOS);
    run::run(bench)?;
    let merged = folder.join("merged");
    let mut merge = Command::new(profdata);
    merge.args(["merge", "--output"]).arg(&merged).arg(&counts);
    run::run(merge)?;
    let mut content = DefaultHasher::new();
    std::fs::read(&merged).context("what was counted cannot be read")?.hash(&mut content);
    let profile = folder.join(format!("{:016x}.profdata", content.finish()));
    std::fs::rename(&merged, &profile).context("what was counted cannot be renamed")
}

/// What was counted.
fn profiles(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "profdata") {
            found.push(path);
        }
    }
    Ok(found)
}

/// What `rustc -vV` and `rustc --print sysroot` tell.
struct Compiler {
    host: String,
    llvm: String,
    sysroot: PathBuf,
}

impl Compiler {
    fn ask() -> anyhow::Result<Self> {
        let ask = |arguments: &[&str]| {
            let output = Command::new("rustc").current_dir(root()).args(arguments).output();
            let output = output.context("rustc cannot be started")?;
            String::from_utf8(output.stdout).context("rustc tells no text")
        };
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim());
        Compiler::read(&ask(&["-vV"])?, sysroot)
    }

    fn read(version: &str, sysroot: PathBuf) -> anyhow::Result<Self> {
        let line = |name: &str| {
            let found = version.lines().find_map(|line| line.strip_prefix(name));
            found.map(str::to_owned).with_context(|| format!("`rustc -vV` tells no {name}"))
        };
        let llvm = line("LLVM version: ")?;
        let llvm = llvm.split('.').next().unwrap_or_default().to_owned();
        Ok(Compiler { host: line("host: ")?, llvm, sysroot })
    }

    /// The program that merges counts, of the compiler's own version.
    fn profdata(&self) -> anyhow::Result<PathBuf> {
        let ours = self.sysroot.join("lib/rustlib").join(&self.host).join("bin/llvm-profdata");
        let others = PathBuf::from(format!("llvm-profdata-{}", self.llvm));
        let works = |program: &PathBuf| {
            let ran = Command::new(program).args(["merge", "--version"]).output();
            ran.is_ok_and(|ran| ran.status.success())
        };
        if let Some(program) = [ours, others].into_iter().find(works) {
            return Ok(program);
        }
        bail!(
            "llvm-profdata is missing; type `rustup component add llvm-tools`, or, where rustc is Debian's, \
             `apt-get install llvm-{}`",
            self.llvm
        )
    }

    /// A build for this machine. That is said, because only then are build scripts and macros left alone.
    fn build(&self, folder: &Path, flag: &str) -> Command {
        let mut build = cargo(&["build", "--release", "--locked", "--target", &self.host, "--target-dir"]);
        build.arg(folder);
        for program in PROGRAMS {
            build.args(["-p", program]);
        }
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        build.env("RUSTFLAGS", format!("{flags} {flag}").trim_start());
        build
    }

    fn programs(&self, folder: &Path) -> PathBuf {
        folder.join(&self.host).join("release")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_tells_its_host_and_llvm() {
        let version = "rustc 1.91.0\nhost: x86_64-unknown-linux-gnu\nrelease: 1.91.0\nLLVM version: 21.1.2\n";
        let compiler = Compiler::read(version, PathBuf::from("/nowhere")).unwrap();
        assert_eq!((compiler.host.as_str(), compiler.llvm.as_str()), ("x86_64-unknown-linux-gnu", "21"));
        assert!(Compiler::read("rustc 1.91.0\n", PathBuf::new()).is_err());
    }

    #[test]
    fn programs_are_built_for_the_host_and_apart() {
        let compiler = Compiler { host: "here".into(), llvm: "21".into(), sysroot: PathBuf::new() };
        let build = compiler.build(Path::new("/folder"), "-Cflag");
        let arguments: Vec<_> = build.get_args().map(|argument| argument.to_str().unwrap()).collect();
        assert!(arguments.windows(2).any(|pair| pair == ["--target", "here"]), "{arguments:?}");
        assert!(arguments.windows(2).any(|pair| pair == ["--target-dir", "/folder"]), "{arguments:?}");
        let flags = build.get_envs().find(|(name, _)| *name == "RUSTFLAGS").unwrap().1.unwrap();
        assert!(flags.to_str().unwrap().ends_with("-Cflag"));
        assert_eq!(compiler.programs(Path::new("/folder")), Path::new("/folder/here/release"));
    }
}
