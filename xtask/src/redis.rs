//! Getting a Redis server for the tests that need one.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::run::run;

/// Finds `redis-server`, or installs Debian's package; elsewhere says what to type.
pub(crate) fn ensure_server() -> anyhow::Result<()> {
    if works("redis-server", "--version") {
        return Ok(());
    }
    if !works("apt-get", "--version") {
        bail!(
            "the tests need redis-server on the PATH; install it, for instance with `brew install redis` or `dnf install redis`"
        );
    }
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .context("`id -u` cannot be started")?
        .stdout
        .starts_with(b"0\n");
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends", "redis-server"]] {
        let mut command = if is_root {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.arg("--non-interactive").arg("apt-get");
            sudo
        };
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        run(command).context(
            "redis-server is missing; as root type `apt-get update && apt-get install redis-server`",
        )?;
    }
    Ok(())
}

/// Whether there is a Valkey server, against which the store on Redis is tested too.
pub(crate) fn has_valkey() -> bool {
    works("valkey-server", "--version")
}

fn works(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
