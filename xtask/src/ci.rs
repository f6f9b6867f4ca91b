//! `cargo xtask ci`: everything that must hold, the quick checks first, the tests last.

use crate::run::{self, cargo};
use crate::{test, tidy};

pub(crate) fn run() -> anyhow::Result<()> {
    run::run(cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run::run(cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    run::run(doc)?;
    test::run(&test::Arguments::default())
}
