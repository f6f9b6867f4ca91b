//! Templates as NetBox 4.6.8 rendered them (Jinja2 3.1.6 on Python 3.12): the same bytes, or an error by name.
//!
//! Invariants
//! - A line matches if the text is the same, or if Jinja2 ends in an error and so do we.
//! - No line renders other bytes: what does not match is in [`MISSES`] with its reason and the error it gives today.

use hookwire_jinja::{ErrorKind, json_dumps};
use serde_json::Value as Json;

use crate::{LENIENT, render};

/// Lines that Jinja2 renders and we refuse: the id, the kind of our error, and a part of its message.
const MISSES: &[(&str, ErrorKind, &str)] = &[
    // A method that is not called prints with its memory address.
    ("tmpl-0095", ErrorKind::Unsupported, "printing the method `keys`"),
    ("tmpl-0405", ErrorKind::Unsupported, "the filter `urlize`"),
    // Different each time.
    ("tmpl-0407", ErrorKind::Unsupported, "the filter `random`"),
    // `{{ +3 }}`: the engine's parser has no unary plus.
    ("tmpl-0518", ErrorKind::Unsupported, "unary `+`"),
    ("tmpl-0604", ErrorKind::Unsupported, "`varargs` in a macro"),
    ("tmpl-0644", ErrorKind::Unsupported, "`{% print .. %}`"),
    ("tmpl-0692", ErrorKind::Unsupported, "`self`"),
    // `{% raw %}` without an end renders nothing in Jinja2.
    ("tmpl-0720", ErrorKind::Syntax, "unexpected end of raw block"),
];

fn lines() -> Vec<Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/netbox/templates.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// NetBox's splitting of rendered headers, as far as the templates are concerned.
fn headers(text: &str) -> Json {
    let mut headers: Vec<(String, String)> = Vec::new();
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    for line in text.split(ends) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => headers.push((name, value)),
        }
    }
    headers.into_iter().map(|(name, value)| Json::from(vec![name, value])).collect()
}

#[derive(Debug)]
enum Verdict {
    Match,
    Refused(hookwire_jinja::Error),
    Different(String),
}

fn judge(line: &Json) -> Verdict {
    let Some(template) = line["template"].as_str() else {
        let body = json_dumps(hookwire_json::Json::from(&line["context"]).root());
        return if line["rendered"] == body.as_str() { Verdict::Match } else { Verdict::Different(body) };
    };
    match render(template, &line["context"], &LENIENT) {
        Err(_) if !line["error"].is_null() => Verdict::Match,
        Err(error) => Verdict::Refused(error),
        Ok(text) if line["function"] == "headers" && headers(&text) == line["rendered"] => Verdict::Match,
        Ok(text) if line["rendered"] == text.as_str() => Verdict::Match,
        Ok(text) => Verdict::Different(text),
    }
}

#[test]
fn netbox_templates_render_the_same_bytes() {
    let lines = lines();
    let mut problems = Vec::new();
    let mut refused = Vec::new();
    let mut matched = 0;
    for line in &lines {
        let id = line["id"].as_str().unwrap();
        match judge(line) {
            Verdict::Match => matched += 1,
            Verdict::Refused(error) => {
                refused.push(id);
                let known = MISSES.iter().any(|(miss, kind, message)| {
                    *miss == id && *kind == error.kind() && error.message().contains(message)
                });
                if !known {
                    problems.push(format!(
                        "{id} {} {}: {:?}: {error}",
                        line["kind"],
                        line["template"],
                        error.kind()
                    ));
                }
            }
            Verdict::Different(text) => {
                problems.push(format!(
                    "{id} {} {}: {text:?}\n  not {}{}",
                    line["kind"], line["template"], line["rendered"], line["error"]
                ));
            }
        }
    }
    for (miss, ..) in MISSES {
        if !refused.contains(miss) {
            problems.push(format!("{miss} is listed as a miss and is none"));
        }
    }
    println!("templates: {matched} / {} matched", lines.len());
    assert!(problems.is_empty(), "{}\n{} problems", problems.join("\n"), problems.len());
    assert!(matched * 100 >= lines.len() * 97, "{matched} of {}", lines.len());
}
