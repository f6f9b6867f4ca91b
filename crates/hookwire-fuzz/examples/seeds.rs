//! Writes the seeds of every target into folders, as cargo-fuzz takes them: `cargo run -p hookwire-fuzz --example seeds --
//! fuzz/corpus`.

use std::path::PathBuf;

use hookwire_fuzz::{Target, cases, seeds};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".into()));
    for target in Target::ALL {
        let folder = folder.join(target.name());
        std::fs::create_dir_all(&folder)?;
        let inputs = seeds(target).into_iter().chain(cases(target));
        let mut count = 0;
        for (number, input) in inputs.enumerate() {
            std::fs::write(folder.join(format!("seed-{number:04}")), input)?;
            count += 1;
        }
        println!("{}: {count} seeds", folder.display());
    }
    Ok(())
}
