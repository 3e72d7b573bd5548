//! What is printed, for people or for programs.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde_json::json;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    is_json: bool,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    hint: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// Returns the failure with a hint.
    pub(crate) fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// Returns the reason and the hint on one line.
    pub(crate) fn text(&self) -> String {
        match self.hint {
            Some(hint) => format!("{}; {hint}", self.text),
            None => self.text.clone(),
        }
    }
}

impl From<glueberry_tokio::Error> for Failure {
    fn from(error: glueberry_tokio::Error) -> Self {
        Self { text: format!("{error:#}"), hint: Some(error.hint()) }
    }
}

macro_rules! failures {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.to_string())
            }
        }
    )*};
}

failures!(
    std::io::Error,
    serde_json::Error,
    glueberry_tokio::RequestError,
    glueberry_tokio::identity::IdentityFileError,
    glueberry_tokio::store::StoreError
);

impl Output {
    pub(crate) const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    pub(crate) const fn is_json(self) -> bool {
        self.is_json
    }

    /// Returns false once the reader of what is printed has gone: a command that does nothing but print
    /// ends then.
    pub(crate) fn is_read(self) -> bool {
        !IS_CLOSED.load(Ordering::Relaxed)
    }

    /// Prints a result: `text` for people, `value` for programs.
    pub(crate) fn say(self, text: impl Display, value: &impl Serialize) {
        match self.is_json {
            true => print(&serde_json::to_string(value).unwrap_or_default()),
            false => print(&text.to_string()),
        }
    }

    pub(crate) fn failed(self, failure: &Failure) {
        let Failure { text, hint } = failure;
        if self.is_json {
            print(&json!({ "error": text, "hint": hint }).to_string());
            return;
        }
        let mut err = std::io::stderr().lock();
        writeln!(err, "glueberry: {text}").ok();
        if let Some(hint) = hint {
            writeln!(err, "  hint: {hint}").ok();
        }
    }
}

/// Prints a line. A reader that has gone is no error.
pub(crate) fn print(text: &str) {
    print_bytes(format!("{text}\n").as_bytes());
}

/// Prints what is a text already. A reader that has gone is no error.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(bytes).and_then(|()| out.flush());
    if printed.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        IS_CLOSED.store(true, Ordering::Relaxed);
    }
}

static IS_CLOSED: AtomicBool = AtomicBool::new(false);
