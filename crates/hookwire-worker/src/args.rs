//! Arguments that several commands share.

use std::path::PathBuf;

use hookwire_config::{Config, Diagnostics, LoadError, Overrides, Settings, Shown, Style};

use crate::exit::{Exit, Failure};
use crate::logging::is_coloured;
use crate::say::say;

/// What is read if nobody says otherwise.
pub(crate) const DEFAULT_FILE: &str = "hookwire.toml";
/// How wide messages are: a terminal's usual width, and fixed, so that they look the same everywhere.
const MESSAGE_WIDTH: usize = 100;

/// Where definitions and settings come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArguments {
    /// File or folder with webhooks, event rules and settings (TOML or JSON); may be given several times. Default:
    /// hookwire.toml, where it exists.
    #[arg(long, short, env = "HOOKWIRE_CONFIG", value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// The store: embedded:FOLDER, redis://HOST:PORT/DB and the like, or memory: (store.url).
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Where the server listens (server.listen).
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Whether that is a worker by itself, which has no server.
    #[arg(skip)]
    is_worker: bool,
}

/// Reads one variable of the environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl ConfigArguments {
    /// Only these files and folders.
    pub fn of_paths(config: Vec<PathBuf>) -> Self {
        ConfigArguments { config, ..ConfigArguments::default() }
    }

    /// The same for a worker by itself: what listens is what tells how it is (`worker.listen`).
    pub(crate) fn of_worker(&self) -> Self {
        ConfigArguments { is_worker: true, ..self.clone() }
    }

    /// Loads and checks the configuration, and prints its warnings.
    ///
    /// # Errors
    /// Exit code 66 if a named file cannot be read, 78 for anything wrong in it.
    pub fn load(&self) -> Result<Config, Failure> {
        let config = self.try_load().map_err(load_failure)?;
        if !config.warnings.is_empty() {
            say(render(&config.warnings));
        }
        Ok(config)
    }

    /// Loads and checks the configuration; what is wrong is the caller's to show.
    ///
    /// # Errors
    /// [`LoadError`] if a file cannot be read or anything is wrong in it.
    pub fn try_load(&self) -> Result<Config, LoadError> {
        self.load_paths(&self.paths())
    }

    /// The same from these files and folders, whatever is in the present folder by now.
    pub(crate) fn load_paths(&self, paths: &[PathBuf]) -> Result<Config, LoadError> {
        hookwire_config::load(paths, &environment, &self.overrides())
    }

    /// Loads what is sound of it, and gives the problems of the rest.
    ///
    /// # Errors
    /// Exit code 66 if a named file cannot be read, 78 if it is not of its format or the settings are wrong.
    pub fn load_sound(&self) -> Result<(Config, Diagnostics), Failure> {
        hookwire_config::load_sound(&self.paths(), &environment, &self.overrides()).map_err(load_failure)
    }

    /// The same for commands that only look at a store or ask a server, without the service's secrets where they cannot be
    /// read.
    ///
    /// # Errors
    /// As for [`load_sound`](Self::load_sound).
    pub fn load_to_look(&self) -> Result<Config, Failure> {
        let loaded = hookwire_config::load_to_look(&self.paths(), &environment, &self.overrides());
        loaded.map(|(config, _)| config).map_err(load_failure)
    }

    /// The settings for looking into the store that this flag names, in place of the configuration's.
    ///
    /// # Errors
    /// As for [`load_sound`](Self::load_sound).
    pub fn load_for_store(&self, flag: &str, url: &str) -> Result<Settings, Failure> {
        let overrides = Overrides::new().with("store.url", flag, url);
        let loaded = hookwire_config::load_to_look(&self.paths(), &environment, &overrides);
        loaded.map(|(config, _)| config.settings).map_err(load_failure)
    }

    /// Loads and checks it, and shows what is in force and where each value comes from.
    ///
    /// # Errors
    /// Exit code 66 if a named file cannot be read, 78 for anything wrong in it.
    pub fn show(&self) -> Result<Shown, Failure> {
        hookwire_config::show(&self.paths(), &environment, &self.overrides()).map_err(load_failure)
    }

    /// The files and folders to read.
    pub fn paths(&self) -> Vec<PathBuf> {
        if self.config.is_empty() {
            return Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()).into_iter().collect();
        }
        self.config.clone()
    }

    fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::new();
        if let Some(store) = &self.store {
            overrides = overrides.with("store.url", "--store", store);
        }
        if let Some(listen) = &self.listen {
            let setting = if self.is_worker { "worker.listen" } else { "server.listen" };
            overrides = overrides.with(setting, "--listen", listen);
        }
        overrides
    }
}

/// Environment variables that look like misspelt ones of hookwire, each with what was probably meant.
pub fn misspelt_variables() -> Vec<(String, String)> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let ours = names.filter(|name| name.starts_with("HOOKWIRE_"));
    ours.filter_map(|name| hookwire_config::meant_variable(&name).map(|meant| (name, meant))).collect()
}

/// Diagnostics as people read them.
pub fn render(diagnostics: &Diagnostics) -> String {
    diagnostics.render(Style { color: is_coloured(&std::io::stderr()), width: MESSAGE_WIDTH })
}

/// A configuration that cannot be loaded, as a failure of the program.
pub fn load_failure(error: LoadError) -> Failure {
    match error {
        // The message holds its cause in words; the operating system's beside them would say it twice.
        LoadError::Unreadable { .. } => Failure::message(Exit::NoInput, error.to_string()),
        LoadError::Invalid(diagnostics) => Failure::message(
            Exit::Config,
            format!("the configuration is not sound\n{}", render(&diagnostics)),
        ),
    }
}
