//! The files in `corpus/`: a context, a template, and what it renders to.
//!
//! A file has lines `name: value` about the webhook, then the sections `context`, `template` and `result`.
//! The names of files whose result is an error begin with `err_`. With `UPDATE_CORPUS=1` in the environment
//! the results are written.

use std::collections::BTreeMap;
use std::path::Path;

use hookwire_model::Engine;

use crate::support::{context, lines, render, webhook};

#[test]
fn every_file_renders_to_its_result() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 20);
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, rest) = text.split_once("--- context\n").unwrap();
        let (members, rest) = rest.split_once("\n--- template\n").unwrap();
        let (template, expected) = rest.split_once("\n--- result\n").unwrap();
        let result = result(head, members, template);
        assert_eq!(result.is_err(), name.starts_with("err_"), "{name}: {result:?}");
        let result = result.unwrap_or_else(|error| error);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            let kept = &text[..text.len() - expected.len()];
            std::fs::write(&path, format!("{kept}{result}\n")).unwrap();
        } else {
            assert_eq!(format!("{result}\n"), expected, "{name}");
        }
    }
}

fn result(head: &str, members: &str, template: &str) -> Result<String, String> {
    let settings: BTreeMap<&str, &str> = head
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(": ").unwrap())
        .collect();
    let mut webhook = webhook(settings["engine"].parse::<Engine>().unwrap());
    let mut place = "body";
    for (name, value) in &settings {
        match *name {
            "engine" => {}
            "place" => place = value,
            "content_type" => webhook.content_type = (*value).into(),
            "escape" => webhook.escape = value.parse().unwrap(),
            "undefined" => webhook.undefined = value.parse().unwrap(),
            _ => panic!("{name} is no setting of a case"),
        }
    }
    match place {
        "url" => webhook.url = template.into(),
        "headers" => webhook.additional_headers = template.into(),
        _ => webhook.body_template = Some(template.into()),
    }
    let context = context(serde_json::from_str(members).unwrap());
    let rendered = render(&webhook, &context).map_err(|errors| lines(&errors))?;
    Ok(match place {
        "url" => format!(
            "{}{}\n{}",
            rendered.authority,
            rendered.target,
            if rendered.literal_host { "literal host" } else { "host from data" }
        ),
        "headers" => {
            let line = |(name, value): &(String, bytes::Bytes)| format!("{name}: {}", value.escape_ascii());
            rendered.headers.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        _ => String::from_utf8(rendered.body.into()).unwrap(),
    })
}
