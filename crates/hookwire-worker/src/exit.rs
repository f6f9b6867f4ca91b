//! How a program ends: exit codes, and errors that carry one.
//!
//! The numbers are those of `sysexits.h`, where it has one; scripts rely on them.

use std::fmt;
use std::process::ExitCode;

use hookwire_queue::QueueError;

use crate::say::say;

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Fine.
    Fine = 0,
    /// The answer is no: a check failed, an id is unknown, nothing matched where one was asked for.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Event data is wrong.
    Data = 65,
    /// A named file cannot be read.
    NoInput = 66,
    /// A service cannot be reached, a port is taken, a store is in use.
    Unavailable = 69,
    /// A panic reached `main`.
    Software = 70,
    /// The disk is full or not writable, a store is damaged, or standard output cannot be written.
    Io = 74,
    /// The configuration is wrong, or a store has an unknown version.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error that knows how the program should end.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

/// What a command comes to.
pub type CommandResult = Result<Exit, Failure>;

impl Failure {
    /// An error with the exit code it asks for.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Failure { exit, error: error.into() }
    }

    /// The same from a message.
    pub fn message(exit: Exit, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Failure { exit, error: anyhow::Error::msg(message) }
    }

    /// The error itself, if it is of this type.
    pub fn downcast_ref<E: std::error::Error + Send + Sync + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// The same with words before it that say what it is about.
    #[must_use]
    pub fn context(self, context: impl fmt::Display + Send + Sync + 'static) -> Self {
        Failure { exit: self.exit, error: self.error.context(context) }
    }

    /// The code to end with.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    /// The whole chain of causes, on one line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut said = self.error.to_string();
        for cause in self.error.chain().skip(1) {
            let cause = cause.to_string();
            // Some libraries repeat their cause in their own message, or the other way round.
            if !said.contains(&cause) && !cause.contains(&said) {
                write!(f, "\n  because: {cause}")?;
            }
            said = cause;
        }
        Ok(())
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let exit = match &error {
            QueueError::Full { .. } | QueueError::Unavailable { .. } | QueueError::InUse { .. } => {
                Exit::Unavailable
            }
            QueueError::NotWritable { .. } | QueueError::Damaged(_) => Exit::Io,
            QueueError::UnknownVersion { .. } => Exit::Config,
        };
        Failure::new(exit, error)
    }
}

/// Runs a command, prints what went wrong, and ends with the right code; a panic that reaches this is one of ours.
pub fn main(command: impl FnOnce() -> CommandResult + std::panic::UnwindSafe) -> ExitCode {
    match std::panic::catch_unwind(command) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => {
            say(format_args!("error: {failure}"));
            failure.exit().into()
        }
        Err(_) => {
            say("error: this is a fault in hookwire; please report it with the message above");
            Exit::Software.into()
        }
    }
}
