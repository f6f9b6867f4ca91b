//! Renders a template with a JSON document, both given on the command line or made up.
//!
//! `cargo run -p hookwire-jinja --example render_jinja -- '{{ a|tojson }} {{ a }}' '{"a": [1, 1.0, null]}'`

use std::error::Error;

use hookwire_jinja::{Options, Template, root, view};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let template = args.next().unwrap_or_else(|| "{{ site.name|upper }} has {{ site.tags }}".into());
    let document =
        args.next().unwrap_or_else(|| r#"{"site": {"name": "ams1", "tags": ["prod", null]}}"#.into());

    let document: serde_json::Value = serde_json::from_str(&document)?;
    let members = document.as_object().ok_or("the document must be an object")?;
    let context = root(members.iter().map(|(name, value)| (name.as_str(), view(value))));
    println!("{}", Template::compile(&template, &Options::default())?.render(&context)?);
    Ok(())
}
