//! A node whose configuration comes from a file and from environment variables.
//!
//! ```text
//! MYAPP_HANDSHAKE_TIMEOUT=30s MYAPP_MAX_MESSAGE_SIZE=1MiB \
//!     cargo run -p glueberry-examples --bin from_env -- config.toml
//! ```
//!
//! The file comes first and the environment last; a bad value names the field or the variable, and
//! the form that is expected.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Parser;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{ConfigLoader, Multiaddr, Node};

/// Builds a node, and prints what it is.
#[derive(Parser)]
struct Cli {
    /// A configuration in TOML, or in JSON if its name ends in .json.
    config: Option<PathBuf>,
    /// Where to listen.
    #[arg(long)]
    listen: Vec<Multiaddr>,
    /// The file of the address book.
    #[arg(long)]
    book: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    let mut loader = ConfigLoader::new();
    if let Some(path) = cli.config {
        loader = loader.file(path)?;
    }
    let config = loader.env("MYAPP_")?.load()?;
    let mut builder = Node::builder(Keypair::generate_ed25519()).config(config);
    for address in cli.listen {
        builder = builder.listen(address);
    }
    if let Some(path) = cli.book {
        builder = builder.address_book(path);
    }
    let node = builder.build().await?;
    say(node.debug_state().await?.to_string().trim_end());
    node.shutdown().await;
    Ok(())
}

fn say(text: impl std::fmt::Display) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
