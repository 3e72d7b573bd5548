//! A node whose configuration comes from a file and from environment variables.
//!
//! ```text
//! GLUEBERRY_HANDSHAKE_TIMEOUT=30s GLUEBERRY_MAX_MESSAGE_SIZE=1048576 \
//!     cargo run -p glueberry-tokio --example from_env [-- config.json]
//! ```
//!
//! The library reads neither: which names a program uses, and what overrules what, is its own
//! affair. Here the file comes first and the environment last; a bad value names the variable.

#![expect(clippy::print_stdout, reason = "a program for a person")]

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Config, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = match std::env::args().nth(1) {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => Config::default(),
    };
    overrule(&mut config)?;
    let listen = from_env("GLUEBERRY_LISTEN", str::parse)?;
    let mut builder = Node::builder(Keypair::generate_ed25519()).config(config);
    if let Some(address) = listen {
        builder = builder.listen(address);
    }
    if let Some(path) = from_env("GLUEBERRY_ADDRESS_BOOK", std::path::PathBuf::from_str)? {
        builder = builder.address_book(path);
    }
    let node = builder.build().await?;
    print!("{}", node.debug_state().await?);
    node.shutdown().await;
    Ok(())
}

/// Sets what the environment names.
fn overrule(config: &mut Config) -> Result<(), Box<dyn Error>> {
    let core = &mut config.core;
    set(&mut core.handshake_timeout, "GLUEBERRY_HANDSHAKE_TIMEOUT", humantime::parse_duration)?;
    set(&mut core.max_message_size, "GLUEBERRY_MAX_MESSAGE_SIZE", str::parse)?;
    set(&mut core.high_watermark, "GLUEBERRY_HIGH_WATERMARK", str::parse)?;
    set(&mut core.low_watermark, "GLUEBERRY_LOW_WATERMARK", str::parse)?;
    let backoff: &mut Duration = &mut core.reconnect.max_backoff;
    set(backoff, "GLUEBERRY_RECONNECT_MAX_BACKOFF", humantime::parse_duration)?;
    set(&mut config.event_buffer, "GLUEBERRY_EVENT_BUFFER", str::parse)?;
    set(&mut config.message_buffer, "GLUEBERRY_MESSAGE_BUFFER", str::parse)?;
    set(&mut config.disable_backpressure, "GLUEBERRY_DISABLE_BACKPRESSURE", str::parse)
}

fn set<T, E: Error>(
    field: &mut T,
    name: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<(), Box<dyn Error>> {
    if let Some(value) = from_env(name, parse)? {
        *field = value;
    }
    Ok(())
}

/// Reads a variable, if it is there.
fn from_env<T, E: Error>(
    name: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Box<dyn Error>> {
    let Ok(text) = std::env::var(name) else {
        return Ok(None);
    };
    parse(&text).map(Some).map_err(|error| format!("{name}={text}: {error}").into())
}
