//! Taking a script's answer apart.
//!
//! Invariant: an answer of another shape is an error, never a guess.

use hookwire_queue::QueueError;
use redis::Value;

use crate::error::odd_answer;

/// An answer, taken apart from front to back.
pub(crate) struct Reply {
    script: &'static str,
    parts: std::vec::IntoIter<Value>,
}

impl Reply {
    /// The answer of a script with this name.
    pub(crate) fn of(script: &'static str, value: Value) -> Result<Self, QueueError> {
        match value {
            Value::Array(parts) => Ok(Reply { script, parts: parts.into_iter() }),
            _ => Err(odd_answer(script)),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.len() == 0
    }

    /// How many parts are left.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The next part, as it is.
    pub(crate) fn next(&mut self) -> Result<Value, QueueError> {
        self.parts.next().ok_or_else(|| odd_answer(self.script))
    }

    /// The next part, an array.
    pub(crate) fn array(&mut self) -> Result<Reply, QueueError> {
        let value = self.next()?;
        Reply::of(self.script, value)
    }

    /// The next part, bytes.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, QueueError> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            _ => Err(odd_answer(self.script)),
        }
    }

    /// The same, if there is such.
    pub(crate) fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>, QueueError> {
        match self.next()? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            _ => Err(odd_answer(self.script)),
        }
    }

    /// The next part, text.
    pub(crate) fn text(&mut self) -> Result<String, QueueError> {
        String::from_utf8(self.bytes()?).map_err(|_| odd_answer(self.script))
    }

    /// The next part, a whole number, as such or in digits.
    pub(crate) fn number(&mut self) -> Result<i64, QueueError> {
        match self.next()? {
            Value::Int(number) => Ok(number),
            Value::BulkString(digits) => {
                let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
                number.ok_or_else(|| odd_answer(self.script))
            }
            _ => Err(odd_answer(self.script)),
        }
    }

    /// The same, not negative.
    pub(crate) fn count(&mut self) -> Result<u64, QueueError> {
        u64::try_from(self.number()?).map_err(|_| odd_answer(self.script))
    }

    /// The same, as 32 bits.
    pub(crate) fn small(&mut self) -> Result<u32, QueueError> {
        u32::try_from(self.number()?).map_err(|_| odd_answer(self.script))
    }

    /// A word for whatever else is wrong.
    pub(crate) fn odd(&self) -> QueueError {
        odd_answer(self.script)
    }
}
