//! What each request is answered: a list of answers, of which the last one repeats.
//!
//! Invariant: a [`Script`] is never empty, so there is always a next answer.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A status from 200 to 599.
    Status(StatusCode),
    /// The connection is closed without an answer.
    Close,
    /// No answer until the client gives up.
    Hang,
}

impl Answer {
    /// The status, or `None` where no answer is sent.
    pub fn status(self) -> Option<StatusCode> {
        match self {
            Answer::Status(status) => Some(status),
            Answer::Close | Answer::Hang => None,
        }
    }

    /// Did this answer accept the request, as a sender sees it?
    pub fn is_success(self) -> bool {
        self.status().is_some_and(|status| status.is_success())
    }
}

impl FromStr for Answer {
    type Err = BadScript;

    fn from_str(text: &str) -> Result<Answer, BadScript> {
        match text {
            "close" => Ok(Answer::Close),
            "hang" => Ok(Answer::Hang),
            _ => StatusCode::from_bytes(text.as_bytes())
                .ok()
                .filter(|status| (200..600).contains(&status.as_u16()))
                .map(Answer::Status)
                .ok_or_else(|| BadScript { step: text.to_owned() }),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Status(status) => write!(f, "{}", status.as_u16()),
            Answer::Close => f.write_str("close"),
            Answer::Hang => f.write_str("hang"),
        }
    }
}

/// A step of a script that is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{step}` is no answer: use a status from 200 to 599, `close` or `hang`, with commas between")]
pub struct BadScript {
    step: String,
}

/// Answers in the order in which requests get them; the last one repeats. Written `500,500,200`; the default is `200`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// All but the last.
    first: Vec<Answer>,
    last: Answer,
}

impl Script {
    /// The answer for the request at `index`, counted from 0 over the requests that were not refused.
    pub fn answer(&self, index: u64) -> Answer {
        usize::try_from(index).ok().and_then(|index| self.first.get(index)).copied().unwrap_or(self.last)
    }
}

impl Default for Script {
    fn default() -> Script {
        Script { first: Vec::new(), last: Answer::Status(StatusCode::OK) }
    }
}

impl FromStr for Script {
    type Err = BadScript;

    fn from_str(text: &str) -> Result<Script, BadScript> {
        let mut first =
            text.split(',').map(|step| step.trim().parse()).collect::<Result<Vec<Answer>, BadScript>>()?;
        let last = first.pop().expect("splitting gives at least one part");
        Ok(Script { first, last })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for answer in &self.first {
            write!(f, "{answer},")?;
        }
        write!(f, "{}", self.last)
    }
}

/// A header line that is added to answers, written `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerHeader {
    name: String,
    value: String,
}

impl AnswerHeader {
    /// The name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, without blanks around it.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// Why a header can't be added to answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswerHeader {
    /// There is no colon.
    #[error("`{0}` is no header: write `Name: value`")]
    NoColon(String),
    /// The name holds something that is no token character (RFC 9110, section 5.6.2).
    #[error("`{0}` is no header name")]
    Name(String),
    /// The value holds something that is not visible ASCII, space or tab.
    #[error("the value of `{0}` may hold visible ASCII characters, spaces and tabs only")]
    Value(String),
    /// The receiver sets this one itself, since it says where an answer ends.
    #[error("`{0}` is set by the receiver itself")]
    Reserved(String),
}

impl FromStr for AnswerHeader {
    type Err = BadAnswerHeader;

    fn from_str(text: &str) -> Result<AnswerHeader, BadAnswerHeader> {
        let (name, value) = text.split_once(':').ok_or_else(|| BadAnswerHeader::NoColon(text.to_owned()))?;
        let value = value.trim_matches([' ', '\t']);
        let parsed = http::HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| BadAnswerHeader::Name(name.to_owned()))?;
        if matches!(parsed.as_str(), "connection" | "content-length" | "date" | "transfer-encoding") {
            return Err(BadAnswerHeader::Reserved(name.to_owned()));
        }
        if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            return Err(BadAnswerHeader::Value(name.to_owned()));
        }
        Ok(AnswerHeader { name: name.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(script: &str, count: u64) -> String {
        let script: Script = script.parse().unwrap();
        (0..count).map(|index| script.answer(index).to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_last_answer_repeats() {
        assert_eq!(answers("200", 3), "200 200 200");
        assert_eq!(answers("500, 500,200", 5), "500 500 200 200 200");
        assert_eq!(answers("close,hang,410", 4), "close hang 410 410");
        assert_eq!(Script::default().answer(u64::MAX), Answer::Status(StatusCode::OK));
    }

    #[test]
    fn a_script_prints_as_it_is_written() {
        for text in ["200", "500,500,200", "close,hang,299"] {
            assert_eq!(text.parse::<Script>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_by_name() {
        for (script, step) in
            [("", ""), ("200,", ""), ("600", "600"), ("199", "199"), ("ok", "ok"), ("200,2000", "2000")]
        {
            assert_eq!(script.parse::<Script>(), Err(BadScript { step: step.to_owned() }), "{script}");
        }
    }

    #[test]
    fn answer_headers_are_checked() {
        let header: AnswerHeader = "Retry-After:  5 ".parse().unwrap();
        assert_eq!((header.name(), header.value()), ("Retry-After", "5"));
        for (text, error) in [
            ("Retry-After 5", BadAnswerHeader::NoColon("Retry-After 5".into())),
            ("Retry After: 5", BadAnswerHeader::Name("Retry After".into())),
            (": 5", BadAnswerHeader::Name(String::new())),
            ("X: a\r\nY: b", BadAnswerHeader::Value("X".into())),
            ("content-LENGTH: 5", BadAnswerHeader::Reserved("content-LENGTH".into())),
        ] {
            assert_eq!(text.parse::<AnswerHeader>(), Err(error));
        }
    }
}
