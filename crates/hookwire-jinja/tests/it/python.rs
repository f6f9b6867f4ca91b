//! Templates with what Jinja2 3.1.6 (sandboxed, autoescape off) on Python 3.11 made of them.
//!
//! `tests/cases/python.jsonl` was written by Jinja2 itself: a line is a template with the text it rendered to
//! `context.json`, or with the class of the error it ended in.

use serde_json::Value as Json;

use crate::{LENIENT, render};

#[test]
fn templates_render_as_in_python() {
    let context: Json = serde_json::from_str(include_str!("../cases/context.json")).unwrap();
    let mut problems = Vec::new();
    let mut count = 0;
    for line in include_str!("../cases/python.jsonl").lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let template = case["template"].as_str().unwrap();
        count += 1;
        match (render(template, &context, &LENIENT), case["rendered"].as_str()) {
            (Ok(text), Some(rendered)) if text == rendered => {}
            (Err(_), None) => {}
            (got, _) => {
                problems.push(format!("{template:?}: {got:?}, not {} {}", case["rendered"], case["error"]));
            }
        }
    }
    assert!(count > 1_000, "the file has {count} cases");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
