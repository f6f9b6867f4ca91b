//! How far publishing has come: a bar on standard error, where that is a terminal.

use std::time::Duration;

use hookwire_worker::say;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::counted;

/// The bar moves by the bytes read, which are known beforehand, and says how many events went out.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for so many bytes; hidden where standard error is no terminal.
    pub(crate) fn new(bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%  {msg}, {eta} left");
        bar.set_style(style.expect("the template is well-formed").progress_chars("━╸ "));
        Progress { bar }
    }

    /// So many bytes are read and published.
    pub(crate) fn read(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// So many events are published, of which so many were known.
    pub(crate) fn published(&self, events: u64, duplicates: u64) {
        let seconds = self.bar.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let mut message = format!("{}, {:.0}/s", counted(events, "event"), events as f64 / seconds);
        if duplicates > 0 {
            message += &format!(", {} known", duplicates);
        }
        self.bar.set_message(message);
    }

    /// Prints something without tearing the bar.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// A line to standard error.
    pub(crate) fn say(&self, line: &str) {
        self.aside(|| say(line));
    }

    /// Takes the bar away and leaves a last line in its place.
    pub(crate) fn finish(&self) {
        let message = self.bar.message();
        let shown = !self.bar.is_hidden() && !message.is_empty();
        let took = self.bar.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        if shown {
            say(format_args!("published {message}, in {took:.1} s"));
        }
    }
}
