//! The command line of `webhook_receiver`.
//!
//! Invariant: without arguments the output is the one of the documentation page; every flag adds to it, or takes away, by
//! itself.

use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use hookwire_model::Secret;
use jiff::SignedDuration;
use webhook_receiver::{AnswerHeader, Format, Limits, Options, Script};

/// Print the HTTP requests that arrive, as they were sent, and answer them.
///
/// Takes any method and path and answers 200. It listens on this machine only, unless --listen says otherwise.
#[derive(Debug, Parser)]
#[command(name = "webhook_receiver", version)]
pub(crate) struct Args {
    /// Port to listen on; 0 takes a free one and prints it
    #[arg(long, value_name = "N", default_value_t = 9000)]
    pub(crate) port: u16,

    /// Address to listen on: an IP address, or `localhost` for 127.0.0.1 and ::1
    #[arg(long, value_name = "ADDR", default_value = "localhost")]
    pub(crate) listen: Listen,

    /// Leave the header lines and the blank line after them away
    #[arg(long)]
    no_headers: bool,

    /// Print one JSON object for each request, on one line; the banner goes to stderr
    #[arg(long, conflicts_with = "no_headers")]
    json: bool,

    /// What to answer, with commas between, the last one repeats: a status (200 to 599), `close` to close the connection
    /// without an answer, `hang` never to answer
    #[arg(long, visible_alias = "answer", value_name = "LIST", default_value_t)]
    status: Script,

    /// How long to wait before each answer, as `2s` or `500ms`
    #[arg(long, value_name = "TIME", value_parser = parse_delay, default_value = "0s", hide_default_value = true)]
    delay: Duration,

    /// Header to add to each answer; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    answer_header: Vec<AnswerHeader>,

    /// Tell which requests repeat a `webhook-id`: duplicates of what was accepted, and retries of what was not
    #[arg(long)]
    duplicates: bool,

    /// Check signatures with this secret and say what is wrong with them: X-Hook-Signature (HMAC-SHA512 of the body) and
    /// webhook-signature (Standard Webhooks v1, secret as `whsec_...`); may be repeated while secrets are rotated
    #[arg(long, value_name = "SECRET", env = "WEBHOOK_RECEIVER_SECRET", hide_env_values = true, value_parser = parse_secret)]
    secret: Vec<Secret>,

    /// Longest body that is taken, in bytes; longer ones are answered 413
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body_bytes)]
    max_body: usize,
}

impl Args {
    pub(crate) fn into_options(self) -> Options {
        let limits = Limits::default();
        Options {
            show_headers: !self.no_headers,
            format: if self.json { Format::JsonLines } else { Format::Text },
            script: self.status,
            delay: self.delay,
            answer_headers: self.answer_header,
            // An empty variable is an unset one: nothing can be signed with an empty secret.
            secrets: self.secret.into_iter().filter(|secret| !secret.expose().is_empty()).collect(),
            tell_repeats: self.duplicates,
            limits: Limits {
                body_bytes: self.max_body,
                bodies_bytes: limits.bodies_bytes.max(self.max_body),
                ..limits
            },
        }
    }
}

/// `None` is `localhost`, which has two addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen(pub(crate) Option<IpAddr>);

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Listen, &'static str> {
        if text == "localhost" {
            return Ok(Listen(None));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(|address| Listen(Some(address))).map_err(
            |_| "give an IP address without a port (--port is for that), such as 0.0.0.0, or `localhost`",
        )
    }
}

fn parse_secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

fn parse_delay(text: &str) -> Result<Duration, String> {
    let delay: SignedDuration =
        text.parse().map_err(|_| "give a number with its unit, such as 2s, 500ms or 1m".to_owned())?;
    Duration::try_from(delay).map_err(|_| "time does not run backwards here".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["webhook_receiver"].iter().chain(args))
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn p15_p16_the_defaults_are_those_of_the_page() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.port, 9000);
        assert_eq!(args.listen.0, None, "P17: loopback only");
        let options = args.into_options();
        let library = Options::default();
        assert_eq!(format!("{options:?}"), format!("{library:?}"));
    }

    #[test]
    fn flags_become_options() {
        let options = parse(&[
            "--no-headers",
            "--answer",
            "500,200",
            "--delay",
            "1m 30s",
            "--answer-header",
            "Retry-After: 5",
            "--secret",
            "one",
            "--secret",
            "two",
            "--duplicates",
            "--max-body",
            "100000000",
        ])
        .unwrap()
        .into_options();
        assert!(!options.show_headers);
        assert_eq!(options.script.to_string(), "500,200");
        assert_eq!(options.delay, Duration::from_secs(90));
        assert_eq!(options.answer_headers[0].name(), "Retry-After");
        assert_eq!(options.secrets, ["one", "two"].map(Secret::new));
        assert!(options.tell_repeats);
        assert_eq!(options.limits.body_bytes, 100_000_000);
        assert_eq!(options.limits.bodies_bytes, 100_000_000, "one body of the longest size always has room");
    }

    #[test]
    fn p17_other_addresses_than_loopback_must_be_named() {
        for (text, address) in
            [("localhost", None), ("0.0.0.0", Some("0.0.0.0")), ("::", Some("::")), ("[::1]", Some("::1"))]
        {
            let args = parse(&["--listen", text]).unwrap();
            assert_eq!(args.listen.0, address.map(|address| address.parse().unwrap()), "{text}");
        }
        assert!(parse(&["--listen", "127.0.0.1:80"]).is_err());
    }

    #[test]
    fn wrong_values_get_a_message_with_the_remedy() {
        for (args, remedy) in [
            (["--delay", "2"], "such as 2s, 500ms or 1m"),
            (["--delay", "-2s"], "time does not run backwards here"),
            (["--status", "600"], "use a status from 200 to 599"),
            (["--listen", "example"], "give an IP address"),
            (["--answer-header", "Retry-After"], "write `Name: value`"),
        ] {
            // With `=`, since one of the values begins with a dash.
            let message = parse(&[&args.join("=")]).unwrap_err().to_string();
            assert!(message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn help_is_readable() {
        let help = Args::command().term_width(100).render_help().to_string();
        insta::assert_snapshot!(help);
    }
}
