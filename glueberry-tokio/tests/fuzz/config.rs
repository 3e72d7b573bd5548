//! Configurations from text: as TOML, as JSON, as environment variables, and by serde alone.

use std::fmt::Display;

use glueberry_tokio::{Config, ConfigLoader, proto};

/// Reads the bytes as a configuration. What is refused is refused with an error of moderate length;
/// what is accepted is valid, and the same when it is written and read again.
pub(crate) fn fuzz_config(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let loaded = match how & 3 {
        0 => ConfigLoader::new().toml(text).and_then(ConfigLoader::load),
        1 => ConfigLoader::new().json(text).and_then(ConfigLoader::load),
        2 => {
            let vars = text.lines().filter_map(|line| line.split_once('='));
            ConfigLoader::new().vars("X_", vars).and_then(ConfigLoader::load)
        }
        _ => return by_serde(text),
    };
    match loaded {
        Ok(config) => check_accepted(&config),
        Err(error) => check_refused(&error, text),
    }
}

fn by_serde(text: &str) {
    match serde_json::from_str::<Config>(text) {
        Ok(config) if config.check().is_ok() => check_accepted(&config),
        Ok(config) => check_refused(&config.check().unwrap_err(), text),
        Err(error) => check_refused(&error, text),
    }
    if let Ok(core) = serde_json::from_str::<proto::Config>(text) {
        let written = serde_json::to_string(&core).expect("it was read");
        let read: proto::Config = serde_json::from_str(&written).expect("it was written");
        assert_eq!(serde_json::to_string(&read).expect("it was read"), written);
    }
}

fn check_accepted(config: &Config) {
    config.check().expect("only what is valid is accepted");
    let written = serde_json::to_string(config).expect("it was read");
    let read: Config = serde_json::from_str(&written).expect("it was written");
    assert_eq!(serde_json::to_string(&read).expect("it was read"), written);
    let loaded = ConfigLoader::new().json(&written).and_then(ConfigLoader::load);
    let loaded = loaded.expect("the loader takes what serde does");
    assert_eq!(serde_json::to_string(&loaded).expect("it was read"), written);
}

fn check_refused(error: &impl Display, text: &str) {
    let shown = error.to_string();
    // Serde's error of an unknown field lists the known ones.
    assert!(!shown.is_empty() && shown.len() <= 4096 + 16 * text.len(), "{}", shown.len());
}
