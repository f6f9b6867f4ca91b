//! Checks configuration files, or without any a broken one of its own, and shows what is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use hookwire_config::{LoadError, Overrides, Style, load};

const BROKEN: &str = r#"[[webhooks]]
name = "slack"
url = "http://localhost:9000/"
timeot = "10s"
body_template = '{"text": "{{data.name}"}'
"#;

fn main() -> Result<ExitCode, std::io::Error> {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let sample = std::env::temp_dir().join(format!("hookwire-sample-{}.toml", std::process::id()));
    let own = paths.is_empty();
    if own {
        std::fs::write(&sample, BROKEN)?;
        paths.push(sample.clone());
    }
    let result = load(&paths, &|name| std::env::var(name).ok(), &Overrides::new());
    if own {
        std::fs::remove_file(&sample)?;
    }
    Ok(match result {
        Ok(config) => {
            print!("{}", config.warnings.render(Style::default()));
            println!(
                "fine: {} rules, {} webhooks",
                config.definitions.rules().count(),
                config.definitions.webhooks().count()
            );
            ExitCode::SUCCESS
        }
        Err(LoadError::Invalid(diagnostics)) => {
            print!("{}", diagnostics.render(Style::default()));
            ExitCode::from(1)
        }
        Err(error @ LoadError::Unreadable { .. }) => {
            println!("{error}");
            ExitCode::from(66)
        }
    })
}
