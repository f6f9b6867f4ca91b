//! Prints the outline of a document: what is where, and what is shared.

use hookwire_json::{Content, Json, Node};

fn main() -> Result<(), hookwire_json::JsonError> {
    let text =
        r#"{"name": "Berlin \"Mitte\"", "racks": [{"id": 40, "units": 42.0}, {"id": 41, "units": null}]}"#;
    let json = Json::parse(text)?;
    println!("{json:?}\n");
    outline(json.root(), 0);
    Ok(())
}

fn outline(node: Node<'_>, depth: usize) {
    let indent = "  ".repeat(depth);
    match node.content() {
        Content::List(list) => {
            println!("{indent}a list of {}", list.len());
            list.iter().for_each(|item| outline(item, depth + 1));
        }
        Content::Object(object) => {
            for (name, member) in object.iter() {
                println!("{indent}{name}:");
                outline(member, depth + 1);
            }
        }
        Content::Text(text) => println!("{indent}{text}"),
        Content::Number(_) | Content::Bool(_) | Content::Null => println!("{indent}{node:?}"),
    }
}
