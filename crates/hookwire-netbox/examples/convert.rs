//! Prints what two exports of NetBox's REST API become.
//!
//! Run with `cargo run -p hookwire-netbox --example convert -- WEBHOOKS.json EVENT_RULES.json`; without arguments it takes
//! those of the tests.

use hookwire_netbox::{import, read_page};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = std::env::args().skip(1);
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/export");
    let webhooks = files.next().unwrap_or_else(|| format!("{tests}/webhooks.json"));
    let rules = files.next().unwrap_or_else(|| format!("{tests}/event-rules.json"));
    let webhooks = read_page(&std::fs::read_to_string(webhooks)?)?;
    let rules = read_page(&std::fs::read_to_string(rules)?)?;
    let imported = import(&webhooks.items, &rules.items)?;
    print!("{}", imported.definitions.to_toml());
    for finding in &imported.findings {
        eprintln!("{finding}");
    }
    Ok(())
}
