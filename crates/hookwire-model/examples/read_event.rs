//! Reads events from standard input, one a line, and prints what templates would see of each, or what is wrong with it.

use std::io::BufRead as _;
use std::sync::Arc;

use hookwire_model::{Event, EventDefaults, EventId, TemplateContext, Timestamp};

fn main() -> std::io::Result<()> {
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let mut new_id =
            || EventId::new(&format!("line-{number}")).expect("a number and letters are visible ASCII");
        match Event::parse(&line?, &mut EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id }) {
            Ok(event) => {
                println!("{}", TemplateContext::new(Arc::new(event), &serde_json::Map::new()).to_json());
            }
            Err(error) => eprintln!("line {}: {error}", number + 1),
        }
    }
    Ok(())
}
