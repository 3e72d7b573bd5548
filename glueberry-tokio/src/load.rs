//! A configuration from a file and from environment variables. Only with the feature `config`.

mod similar;

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use glueberry_proto::ConfigError;
use serde_json::{Map, Value};
use thiserror::Error;

use self::similar::{similar, tails};
use crate::config::Config;

/// Reads a [`Config`] from files and environment variables: what comes later overrides what came
/// before, and what is named nowhere has its default.
///
/// Files are TOML, or JSON if their name ends in `.json`. Sizes in bytes are numbers or text such as
/// `"64KiB"` or `"1MiB"`, times are text such as `"30s"` or `"1m 30s"`. An environment variable has
/// the field's name in capitals behind a prefix, without the `core` in front:
/// `core.handshake_timeout` is `MYAPP_HANDSHAKE_TIMEOUT`, and `core.reconnect.max_backoff` is
/// `MYAPP_RECONNECT_MAX_BACKOFF`. Lists are separated by commas there.
///
/// ```
/// use glueberry_tokio::ConfigLoader;
///
/// let text = r#"
///     keep_alive = "2s"
///     stream_window = "256KiB"
///
///     [core]
///     max_message_size = "1MiB"
///     reconnect = { max_backoff = "1m" }
/// "#;
/// let vars = [("MYAPP_HANDSHAKE_TIMEOUT", "30s"), ("MYAPP_STREAMS", "chat,news")];
/// let config = ConfigLoader::new().toml(text)?.vars("MYAPP_", vars)?.load()?;
/// assert_eq!(config.core.max_message_size, 1024 * 1024);
/// assert_eq!(config.core.handshake_timeout.as_secs(), 30);
/// assert_eq!(config.core.streams.len(), 2);
///
/// let error = ConfigLoader::new().toml("keep_alive = 2").unwrap_err();
/// assert_eq!(error.to_string(), "keep_alive = 2: expected a time such as \"30s\" or \"250ms\"");
/// # Ok::<(), glueberry_tokio::ConfigLoadError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing before `load`"]
pub struct ConfigLoader {
    /// The default configuration, which says what each field looks like.
    defaults: Value,
    merged: Value,
}

/// Why a configuration could not be loaded.
///
/// `{:?}`, which is what a `main` that returns it prints, is the text of `{}`.
#[derive(Error)]
#[non_exhaustive]
pub enum ConfigLoadError {
    /// A file cannot be read.
    #[error("configuration file {path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The text is not TOML or JSON.
    #[error("configuration is malformed: {0}")]
    Malformed(String),
    /// There is no such field, or no such variable.
    #[error("{name}: there is no such field{}", .similar.as_ref().map_or_else(String::new, |it| format!("; did you mean {it}?")))]
    Unknown {
        /// The name as it was given.
        name: String,
        /// A field or variable whose name is similar.
        similar: Option<String>,
    },
    /// A value has another form than its field wants.
    #[error("{name} = {value}: expected {expected}")]
    Form {
        /// The field or variable.
        name: String,
        /// The value as it was given.
        value: String,
        /// The form that is wanted, with an example.
        expected: &'static str,
    },
    /// The values have the right form and cannot work.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
}

impl fmt::Debug for ConfigLoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Default for ConfigLoader {
    fn default() -> Self {
        Self::new()
    }
}

impl ConfigLoader {
    /// Begins with the default configuration.
    pub fn new() -> Self {
        // A configuration of plain values always serializes.
        let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
        Self { merged: defaults.clone(), defaults }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// See [`ConfigLoadError`].
    pub fn file(self, path: impl AsRef<Path>) -> Result<Self, ConfigLoadError> {
        let path = path.as_ref();
        let failed = |source| ConfigLoadError::File { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        let is_json = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("json"));
        if is_json { self.json(&text) } else { self.toml(&text) }
    }

    /// Reads TOML.
    ///
    /// # Errors
    ///
    /// See [`ConfigLoadError`].
    pub fn toml(self, text: &str) -> Result<Self, ConfigLoadError> {
        let malformed = |error: toml::de::Error| ConfigLoadError::Malformed(error.to_string());
        let value = toml::from_str(text).map_err(malformed)?;
        self.merge(value)
    }

    /// Reads JSON.
    ///
    /// # Errors
    ///
    /// See [`ConfigLoadError`].
    pub fn json(self, text: &str) -> Result<Self, ConfigLoadError> {
        let malformed = |error: serde_json::Error| ConfigLoadError::Malformed(error.to_string());
        let value = serde_json::from_str(text).map_err(malformed)?;
        self.merge(value)
    }

    /// Takes the environment variables of the process that begin with a prefix, such as `MYAPP_`. The
    /// prefix must be used for nothing else: a name that is no field's is an error.
    ///
    /// # Errors
    ///
    /// See [`ConfigLoadError`].
    pub fn env(self, prefix: &str) -> Result<Self, ConfigLoadError> {
        let text = |it: std::ffi::OsString| it.to_string_lossy().into_owned();
        let vars = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        self.vars(prefix, vars)
    }

    /// Takes variables that begin with a prefix out of those given.
    ///
    /// # Errors
    ///
    /// See [`ConfigLoadError`].
    pub fn vars<N: AsRef<str>, V: Into<String>>(
        mut self,
        prefix: &str,
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigLoadError> {
        let mut fields = Vec::new();
        leaves(&self.defaults, &mut Vec::new(), &mut fields);
        for (name, value) in vars {
            let name = name.as_ref();
            let Some(suffix) = name.strip_prefix(prefix) else { continue };
            let Some(path) = fields.iter().find(|path| variable(path) == suffix) else {
                let words: Vec<&str> = suffix.split('_').collect();
                let known = fields.iter().map(|path| {
                    let parts: Vec<String> =
                        in_core(path).iter().map(|it| it.to_uppercase()).collect();
                    (format!("{prefix}{}", variable(path)), tails(&parts, "_"))
                });
                let similar = similar(&tails(&words, "_"), known);
                return Err(ConfigLoadError::Unknown { name: name.to_owned(), similar });
            };
            let default = at(&self.defaults, path);
            let value = leaf(name, default, Value::String(value.into()))?;
            if let Some(field) = at_mut(&mut self.merged, path) {
                *field = value;
            }
        }
        Ok(self)
    }

    /// Checks the configuration, and returns it.
    ///
    /// # Errors
    ///
    /// [`ConfigLoadError::Malformed`] and [`ConfigLoadError::Invalid`].
    pub fn load(self) -> Result<Config, ConfigLoadError> {
        let malformed = |error: serde_json::Error| ConfigLoadError::Malformed(error.to_string());
        let config: Config = serde_json::from_value(self.merged).map_err(malformed)?;
        config.check()?;
        Ok(config)
    }

    fn merge(mut self, value: Value) -> Result<Self, ConfigLoadError> {
        match merge(&mut String::new(), &self.defaults, &mut self.merged, value) {
            Ok(()) => Ok(self),
            Err(ConfigLoadError::Unknown { name, .. }) => {
                let mut fields = Vec::new();
                every(&self.defaults, &mut Vec::new(), &mut fields);
                let known = fields.iter().map(|path| (path.join("."), tails(path, ".")));
                let parts: Vec<&str> = name.split('.').collect();
                let similar = similar(&tails(&parts, "."), known);
                Err(ConfigLoadError::Unknown { name, similar })
            }
            Err(error) => Err(error),
        }
    }
}

/// Puts the values that are given in place of those that were there.
fn merge(
    path: &mut String,
    defaults: &Value,
    merged: &mut Value,
    given: Value,
) -> Result<(), ConfigLoadError> {
    let (Value::Object(defaults), Value::Object(merged)) = (defaults, merged) else {
        return Ok(());
    };
    let Value::Object(given) = given else {
        return Err(form(path, &given, "a table of fields"));
    };
    for (name, value) in given {
        let length = path.len();
        let dot = if path.is_empty() { "" } else { "." };
        // Writing to a string does not fail.
        write!(path, "{dot}{name}").ok();
        let (Some(default), Some(field)) = (defaults.get(&name), merged.get_mut(&name)) else {
            return Err(ConfigLoadError::Unknown { name: path.clone(), similar: None });
        };
        match default.is_object() {
            true => merge(path, default, field, value)?,
            false => *field = leaf(path, default, value)?,
        }
        path.truncate(length);
    }
    Ok(())
}

/// Returns a value in the form that the configuration's deserializer takes.
fn leaf(name: &str, default: &Value, given: Value) -> Result<Value, ConfigLoadError> {
    match (default, &given) {
        (Value::Number(_), Value::Null) => Ok(given),
        (Value::Number(_), Value::Number(number)) if number.is_u64() => Ok(given),
        (Value::Number(_), Value::String(text)) if is_size(name) => {
            let size = text.trim().parse::<ByteSize>();
            let size = size.map_err(|_| form(name, &given, SIZE))?;
            Ok(size.as_u64().into())
        }
        (Value::Number(_), Value::String(text)) => {
            let number = text.trim().parse::<u64>();
            Ok(number.map_err(|_| form(name, &given, NUMBER))?.into())
        }
        (Value::Number(_), _) => Err(form(name, &given, if is_size(name) { SIZE } else { NUMBER })),
        (Value::Bool(_), Value::Bool(_)) => Ok(given),
        (Value::Bool(_), Value::String(text)) => match text.trim() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(form(name, &given, "true or false")),
        },
        (Value::Bool(_), _) => Err(form(name, &given, "true or false")),
        (Value::Array(_), Value::String(text)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.collect::<Vec<_>>().into())
        }
        (Value::Array(_), Value::Array(_)) => Ok(given),
        (Value::Array(_), _) => Err(form(name, &given, "a list such as [\"chat\", \"news\"]")),
        (Value::String(default), _) if is_time(default) => match &given {
            Value::String(text) if is_time(text) => Ok(given),
            _ => Err(form(name, &given, TIME)),
        },
        (Value::String(_), Value::String(_)) => Ok(given),
        (Value::String(_), _) => Err(form(name, &given, "text")),
        _ => Ok(given),
    }
}

fn is_time(text: &str) -> bool {
    humantime::parse_duration(text).is_ok()
}

/// Returns whether a field is a number of bytes.
fn is_size(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["_size", "_bytes", "_memory", "_window"].iter().any(|end| name.ends_with(end))
}

fn form(name: &str, value: &Value, expected: &'static str) -> ConfigLoadError {
    ConfigLoadError::Form { name: name.to_owned(), value: value.to_string(), expected }
}

/// Collects the paths of all fields that are no tables.
fn leaves(value: &Value, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    let Value::Object(fields) = value else {
        out.push(path.clone());
        return;
    };
    for (name, value) in fields {
        path.push(name.clone());
        leaves(value, path, out);
        path.pop();
    }
}

/// Collects the paths of all fields, tables among them.
fn every(value: &Value, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        path.push(name.clone());
        out.push(path.clone());
        every(value, path, out);
        path.pop();
    }
}

/// Returns the variable of a field, without the prefix.
fn variable(path: &[String]) -> String {
    in_core(path).join("_").to_uppercase()
}

/// Returns a path without the `core` in front.
fn in_core(path: &[String]) -> &[String] {
    path.strip_prefix(&["core".to_owned()]).unwrap_or(path)
}

fn at<'a>(value: &'a Value, path: &[String]) -> &'a Value {
    path.iter().try_fold(value, |value, name| value.get(name)).unwrap_or(&Value::Null)
}

fn at_mut<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, name| {
        value.as_object_mut().and_then(|fields: &mut Map<String, Value>| fields.get_mut(name))
    })
}

const SIZE: &str = "a size such as \"64KiB\" or \"1MiB\", or a number of bytes";
const TIME: &str = "a time such as \"30s\" or \"250ms\"";
const NUMBER: &str = "a whole number";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn none() -> [(&'static str, &'static str); 0] {
        []
    }

    fn toml_error(text: &str) -> String {
        ConfigLoader::new().toml(text).unwrap_err().to_string()
    }

    #[test]
    fn nothing_given_is_the_default() {
        let config = ConfigLoader::new().toml("").unwrap().vars("X_", none()).unwrap();
        let config = serde_json::to_value(config.load().unwrap()).unwrap();
        assert_eq!(config, serde_json::to_value(Config::default()).unwrap());
    }

    #[test]
    fn later_sources_override_earlier_ones() {
        let loader = ConfigLoader::new().toml("event_buffer = 7\nmessage_buffer = 8").unwrap();
        let loader = loader.json(r#"{ "message_buffer": 9, "core": { "max_dials": 3 } }"#).unwrap();
        let vars = [("APP_MAX_DIALS", "4"), ("OTHER_MAX_DIALS", "5"), ("APP_AUTOCONNECT", "true")];
        let config = loader.vars("APP_", vars).unwrap().load().unwrap();
        assert_eq!((config.event_buffer, config.message_buffer), (7, 9));
        assert_eq!((config.core.max_dials, config.core.autoconnect), (4, true));
    }

    #[test]
    fn every_unit_and_every_form() {
        let text = "send_window = \"2 MiB\"\nlost_after = 5\ndelivery = \"drop-newest\"\n[core]\n\
            node_memory = \"512MB\"\nprofiles = [\"v2\"]\ncooldown = \"1m 30s\"\n\
            high_watermark_bytes = 1048576\nlow_watermark_bytes = \"512kib\"";
        let config = ConfigLoader::new().toml(text).unwrap().load().unwrap();
        assert_eq!(config.send_window, 2 * 1024 * 1024);
        assert_eq!(config.core.node_memory, 512_000_000);
        assert_eq!(config.core.cooldown, Duration::from_secs(90));
        assert_eq!(config.core.low_watermark_bytes, 512 * 1024);
    }

    #[test]
    fn errors_say_which_form_is_expected() {
        assert!(toml_error("core = 3").contains("a table of fields"));
        let error = toml_error("[core]\nmax_message_size = \"many\"");
        assert_eq!(
            error,
            "core.max_message_size = \"many\": expected a size such as \"64KiB\" or \"1MiB\", or a \
             number of bytes"
        );
        assert!(toml_error("[core]\nhandshake_timeout = \"soon\"").contains("such as \"30s\""));
        assert!(toml_error("event_buffer = -1").ends_with("expected a whole number"));
        assert!(toml_error("event_buffer = \"1KiB\"").ends_with("expected a whole number"));
        assert!(toml_error("disable_backpressure = 1").ends_with("expected true or false"));
        assert!(toml_error("[core]\nstreams = 1").contains("expected a list"));
        assert!(toml_error("keep_alive").contains("malformed"));
        let error = toml_error("[core]\nhandshake_timout = \"3s\"");
        assert!(error.ends_with("did you mean core.handshake_timeout?"), "{error}");
        assert!(!toml_error("colour = \"red\"").contains("did you mean"));
        let vars = [("APP_MAX_DAILS", "4")];
        let error = ConfigLoader::new().vars("APP_", vars).unwrap_err().to_string();
        assert!(error.ends_with("did you mean APP_MAX_DIALS?"), "{error}");
        let vars = [("APP_KEEP_ALIVE", "5")];
        let error = ConfigLoader::new().vars("APP_", vars).unwrap_err().to_string();
        assert!(error.starts_with("APP_KEEP_ALIVE = \"5\": expected a time"), "{error}");
        let loader = ConfigLoader::new().toml("event_buffer = 0").unwrap();
        assert!(
            matches!(loader.load(), Err(ConfigLoadError::Invalid(error)) if error.field == "event_buffer")
        );
        let error = ConfigLoader::new().file("/nowhere/config.toml").unwrap_err();
        assert!(matches!(error, ConfigLoadError::File { .. }));
    }

    #[test]
    fn a_name_in_the_wrong_section_is_recognised() {
        for (name, meant) in [
            ("APP_CORE_PEER_MEMORY", "APP_PEER_MEMORY"),
            ("APP_CORE_PEER_MEMROY", "APP_PEER_MEMORY"),
            ("APP_CORE_RECONNECT_MAX_BACKOFF", "APP_RECONNECT_MAX_BACKOFF"),
            ("APP_MAX_BACKOFF", "APP_RECONNECT_MAX_BACKOFF"),
        ] {
            let error = ConfigLoader::new().vars("APP_", [(name, "1")]).unwrap_err().to_string();
            assert!(error.ends_with(&format!("; did you mean {meant}?")), "{error}");
        }
        for (text, meant) in [
            ("peer_memory = 1", "core.peer_memory"),
            ("[core]\nkeep_alive = \"1s\"", "keep_alive"),
            ("[core]\nmax_backoff = \"1s\"", "core.reconnect.max_backoff"),
            ("[reconnect]\nmax_backoff = \"1s\"", "core.reconnect"),
        ] {
            let error = toml_error(text);
            assert!(error.ends_with(&format!("; did you mean {meant}?")), "{error}");
        }
        for name in ["APP_COLOUR", "APP_CORE", "APP_", "APP_CORE_COLOUR"] {
            let error = ConfigLoader::new().vars("APP_", [(name, "1")]).unwrap_err().to_string();
            assert!(error.ends_with(": there is no such field"), "{error}");
        }
    }

    #[test]
    fn every_field_has_a_variable_of_its_own_and_its_default_is_accepted() {
        let defaults = ConfigLoader::new().defaults;
        let mut fields = Vec::new();
        leaves(&defaults, &mut Vec::new(), &mut fields);
        let names: BTreeSet<String> = fields.iter().map(|path| variable(path)).collect();
        assert_eq!(names.len(), fields.len(), "two fields share a variable");
        ConfigLoader::new().merge(defaults).unwrap().load().unwrap();
    }
}
