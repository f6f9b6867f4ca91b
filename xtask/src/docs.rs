//! `cargo xtask docs`: pages that are made of the code's own tables.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::run::{cargo, root};

/// Each page, and the example that prints it.
const PAGES: &[(&str, &str, &str)] = &[("docs/settings.md", "hookwire-config", "settings_page")];

/// Writes them.
pub(crate) fn run() -> anyhow::Result<()> {
    for (page, ..) in PAGES {
        let text = printed(page)?;
        fs::write(root().join(page), text).with_context(|| format!("{page} cannot be written"))?;
        eprintln!("docs: {page} is up to date");
    }
    Ok(())
}

/// Tells those that are not what the code says.
pub(crate) fn check(complaints: &mut Vec<String>) -> anyhow::Result<()> {
    for (page, ..) in PAGES {
        if fs::read_to_string(root().join(page)).unwrap_or_default() != printed(page)? {
            complaints.push(format!("{page}: is not what the code says; run `cargo xtask docs`"));
        }
    }
    Ok(())
}

/// Tells links between our own pages that lead nowhere.
pub(crate) fn check_links(file: &Path, complaints: &mut Vec<String>) -> anyhow::Result<()> {
    let text = fs::read_to_string(file)?;
    let folder = file.parent().context("a file lies in a folder")?;
    let shown = file.strip_prefix(root()).unwrap_or(file).display();
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let path = link.split('#').next().unwrap_or_default();
        if link.contains("://") || link.contains(char::is_whitespace) {
            continue;
        }
        let target = if path.is_empty() { file.to_owned() } else { folder.join(path) };
        if !target.exists() {
            complaints.push(format!("{shown}: the link to {link} leads nowhere"));
        } else if let Some((_, anchor)) = link.split_once('#')
            && !anchors(&fs::read_to_string(&target)?).contains(&anchor.to_owned())
        {
            complaints.push(format!("{shown}: {link} leads to no heading"));
        }
    }
    Ok(())
}

/// The anchors of a page's headings, as code hosts make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let anchor = |heading: &str| -> String {
        let kept = heading.trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

fn printed(page: &str) -> anyhow::Result<String> {
    let (_, package, example) =
        PAGES.iter().find(|(name, ..)| *name == page).with_context(|| format!("no page {page}"))?;
    let output = cargo(&["run", "--locked", "--quiet", "-p", package, "--example", example])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    ensure!(output.status.success(), "the example {example} of {package} ended with {}", output.status);
    String::from_utf8(output.stdout).context("a page is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_code_hosts() {
        assert_eq!(
            anchors("# Delivery: promises and limits\n\ntext # no\n## `preview --format json`\n"),
            ["delivery-promises-and-limits", "preview---format-json"]
        );
    }
}
