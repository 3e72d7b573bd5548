//! What is printed, for people or for programs.

use std::fmt::Display;
use std::io::Write;

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
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").ok();
    out.flush().ok();
}
