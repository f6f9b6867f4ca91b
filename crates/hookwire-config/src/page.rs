//! The page about settings, `docs/settings.md`: its prose, and the table that reading uses.

use crate::not_yet::NOT_YET;
use crate::settings::SETTINGS;

/// The page, in Markdown. `cargo xtask docs` writes it.
pub fn settings_page() -> String {
    let mut table =
        String::from("| setting | kind | default | flag | meaning |\n| --- | --- | --- | --- | --- |\n");
    for row in SETTINGS {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let default = if row.default.is_empty() { "none".to_owned() } else { code(row.default) };
        let flag = code(row.flag.unwrap_or_default());
        table += &format!(
            "| `{}` | {} | {default} | {flag} | {} |\n",
            row.path,
            row.kind.as_str(),
            row.description
        );
    }
    let sections = crate::settings::sections();
    let entries = NOT_YET.iter().filter(|entry| sections.contains(&entry.table));
    let entries: Vec<String> = entries
        .map(|entry| {
            let path = format!("`{}.{}`", entry.table, entry.member);
            match entry.value {
                None => path,
                Some(value) if entry.member == "url" => format!("{path} with `{value}:`"),
                Some(value) => format!("{path} with `\"{value}\"`"),
            }
        })
        .collect();
    let not_yet = if entries.is_empty() {
        String::new()
    } else {
        format!("\n## Not supported yet\n\n`check` refuses these as that: {}.\n", entries.join(", "))
    };
    include_str!("page.md").replace("{table}\n", &table).replace("{not_yet}\n", &not_yet)
}
