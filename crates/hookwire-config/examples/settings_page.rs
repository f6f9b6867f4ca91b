//! Prints the page about settings, as `cargo xtask docs` writes it to `docs/settings.md`.

fn main() {
    print!("{}", hookwire_config::settings_page());
}
