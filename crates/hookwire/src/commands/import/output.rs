//! Where an import is written to: a file, two files in a folder, or standard output.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hookwire_netbox::Definitions;
use hookwire_worker::{Exit, Failure, print};

/// Where to write.
pub(super) enum Targets {
    Stdout,
    /// All of it.
    File(PathBuf),
    /// Webhooks and event rules apart.
    Folder(PathBuf),
}

/// The files of a folder.
const WEBHOOKS: &str = "webhooks.toml";
const EVENT_RULES: &str = "event_rules.toml";

/// Looks at where to write.
pub(super) fn targets(output: &Path, force: bool) -> Result<Targets, Failure> {
    let targets = if output == Path::new("-") {
        Targets::Stdout
    } else if output.is_dir()
        || output.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR])
    {
        Targets::Folder(output.to_owned())
    } else if format(output).is_some() {
        Targets::File(output.to_owned())
    } else {
        let message = format!(
            "--output {} has to end in .toml or .json; a folder that is not there yet has to end in a slash",
            output.display()
        );
        return Err(Failure::message(Exit::Usage, message));
    };
    match targets.files().into_iter().find(|file| !force && file.symlink_metadata().is_ok()) {
        Some(file) => Err(there_already(&file)),
        None => Ok(targets),
    }
}

fn there_already(file: &Path) -> Failure {
    let message =
        format!("{} is there already; name another file, or replace it with --force", file.display());
    Failure::message(Exit::No, message)
}

#[derive(Clone, Copy)]
enum Format {
    Toml,
    Json,
}

fn format(file: &Path) -> Option<Format> {
    match file.extension().and_then(OsStr::to_str) {
        Some("toml") => Some(Format::Toml),
        Some("json") => Some(Format::Json),
        _ => None,
    }
}

impl Targets {
    fn files(&self) -> Vec<PathBuf> {
        match self {
            Targets::Stdout => Vec::new(),
            Targets::File(file) => vec![file.clone()],
            Targets::Folder(folder) => vec![folder.join(WEBHOOKS), folder.join(EVENT_RULES)],
        }
    }

    /// What `--config` takes.
    pub(super) fn config(&self) -> Option<&Path> {
        match self {
            Targets::Stdout => None,
            Targets::File(path) | Targets::Folder(path) => Some(path),
        }
    }

    pub(super) fn write(&self, definitions: &Definitions, force: bool) -> Result<(), Failure> {
        match self {
            Targets::Stdout => print(&definitions.to_toml())?,
            Targets::File(file) => {
                let text = match format(file) {
                    Some(Format::Json) => definitions.to_json(),
                    Some(Format::Toml) | None => definitions.to_toml(),
                };
                replace(file, &text, definitions.may_hold_secrets(), force)?;
            }
            Targets::Folder(folder) => {
                std::fs::create_dir_all(folder).map_err(|error| not_written(folder, error))?;
                let webhooks = Definitions { event_rules: Vec::new(), ..definitions.clone() };
                let rules =
                    Definitions { event_rules: definitions.event_rules.clone(), ..Definitions::default() };
                replace(&folder.join(WEBHOOKS), &webhooks.to_toml(), webhooks.may_hold_secrets(), force)?;
                replace(&folder.join(EVENT_RULES), &rules.to_toml(), false, force)?;
            }
        }
        Ok(())
    }
}

/// Writes a file beside its place and moves it there.
fn replace(file: &Path, text: &str, secret: bool, force: bool) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".hookwire-import-");
    #[cfg(unix)]
    if !secret {
        use std::os::unix::fs::PermissionsExt as _;
        // As any new file: what the umask leaves of it.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let write = || -> io::Result<()> {
        // For its owner alone, unless told otherwise.
        let mut temporary = builder.tempfile_in(folder)?;
        temporary.write_all(text.as_bytes())?;
        temporary.as_file().sync_all()?;
        if force {
            temporary.persist(file)?;
        } else {
            temporary.persist_noclobber(file)?;
        }
        // The rename is on disk when its folder is.
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => there_already(file),
        _ => not_written(file, error),
    })
}

fn not_written(path: &Path, error: io::Error) -> Failure {
    Failure::new(Exit::Io, anyhow::Error::new(error).context(format!("{} cannot be written", path.display())))
}
