//! A chat whose event loop is its own: one thread, TCP with TLS, no runtime. What the core needs is that of
//! the example `embedded`.
//!
//! ```text
//! cargo run -p glueberry-proto --features multiformats --example chat_over_tcp -- --listen 127.0.0.1:4001
//! cargo run -p glueberry-proto --features multiformats --example chat_over_tcp -- --dial KEY@127.0.0.1:4001
//! ```
//!
//! The first prints what the second dials. Ctrl-C or the end of input ends either.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a driver has sockets")]

#[expect(dead_code, reason = "its program is not run here")]
#[path = "embedded.rs"]
mod embedded;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use clap::Parser;
use embedded::{Program, Result};
use glueberry_proto::endpoint::{Driver, Endpoint, Output};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{
    Address, Config, ConnectionState, Identity, Instant, PublicKey, Seed, StreamName,
};
use libp2p_identity::Keypair;

/// Talks with a peer over TCP: one side listens, the other dials.
#[derive(Parser)]
struct Cli {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The peer to dial, as the other side prints it: KEY@ADDRESS.
    #[arg(long)]
    dial: Option<Peer>,
    /// The file that holds this node's identity; created if it is missing.
    #[arg(long, default_value = "chat.key")]
    identity: PathBuf,
}

/// A peer that can be dialled.
#[derive(Clone)]
struct Peer {
    key: PublicKey,
    address: SocketAddr,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (key, address) = text.split_once('@').ok_or("not KEY@ADDRESS")?;
        let bytes = hex::decode(key).map_err(|error| error.to_string())?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| "a key has 32 bytes")?;
        let key = PublicKey::from_bytes(&bytes).map_err(|error| error.to_string())?;
        let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { key, address })
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut program = program(&cli)?;
    let key = program.driver.endpoint().node().public_key();
    let address = program.listener.local_addr()?;
    say(format_args!("to dial: {}@{address}", hex::encode(key.as_bytes())));
    if let Some(Peer { key, address }) = cli.dial {
        let (now, address) = (program.now(), Address::new(address.to_string()));
        program.driver.endpoint_mut().add_peer(now, key, &[address])?;
        program.driver.endpoint_mut().connect(now, key)?;
    }
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let interrupted = is_interrupted.clone();
    ctrlc::set_handler(move || interrupted.store(true, Ordering::Relaxed))?;
    chat(&mut program, &lines(), &is_interrupted)
}

/// The event loop: what has arrived, what was typed, and the end.
fn chat(program: &mut Program, lines: &Receiver<String>, is_over: &AtomicBool) -> Result<()> {
    let chat = StreamName::new("chat")?;
    let mut peer = None;
    let mut is_ending = false;
    while !program.driver.endpoint().is_idle() {
        for output in program.turn()? {
            match output {
                Output::State(event) => {
                    let reason = event.reason.as_ref().map(|reason| format!(": {reason}"));
                    let reason = reason.unwrap_or_default();
                    say(format_args!("{} is {}{reason}", short(&event.peer), event.state));
                    let is_established = event.state == ConnectionState::Established;
                    peer = is_established.then_some(event.peer);
                }
                Output::Message { peer, message, .. } => {
                    say(format_args!("{}> {}", short(&peer), String::from_utf8_lossy(&message)));
                }
                _ => {}
            }
        }
        let now = program.now();
        let typed = lines.try_recv();
        if !is_ending
            && (is_over.load(Ordering::Relaxed) || typed == Err(TryRecvError::Disconnected))
        {
            // What was sent before is still delivered.
            program.driver.endpoint_mut().shutdown(now);
            is_ending = true;
        }
        match (typed, peer) {
            (Ok(line), Some(peer)) => {
                if let Err(error) =
                    program.driver.endpoint_mut().send(now, peer, &chat, line.into())
                {
                    say(format_args!("not sent: {error}"));
                }
            }
            (Ok(_), None) => say("nobody is here yet"),
            (Err(_), _) => {}
        }
    }
    say("bye");
    Ok(())
}

/// Reads lines in a thread, because that blocks.
fn lines() -> Receiver<String> {
    let (sender, receiver) = sync_channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn program(cli: &Cli) -> Result<Program> {
    let secret = secret(&cli.identity)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
    let mut config = Config::default();
    config.streams = vec![StreamName::new("chat")?];
    let (identity, seed) = (Identity::from_seed(&secret), Seed::from_bytes(seed));
    let endpoint = Endpoint::new(Instant::ZERO, identity, config, seed)?;
    let listener = TcpListener::bind(cli.listen)?;
    listener.set_nonblocking(true)?;
    Ok(Program {
        driver: Driver::new(endpoint.greeting(GreetingConfig::default())?),
        listener,
        keypair: Keypair::ed25519_from_bytes(secret)?,
        epoch: std::time::Instant::now(),
    })
}

/// Reads the secret of the identity, or makes one: whole or not at all, and for its owner alone.
fn secret(path: &Path) -> Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => {
            return Ok(bytes.try_into().map_err(|_| "the identity is not 32 bytes long")?);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| error.to_string())?;
    let made = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = private(&made)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(made, path)?;
    Ok(secret)
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn short(peer: &PublicKey) -> String {
    hex::encode(peer.as_bytes()).chars().take(8).collect()
}

fn say(text: impl std::fmt::Display) {
    // Who reads it may have enough, such as `head`.
    writeln!(io::stdout(), "{text}").unwrap_or_default();
}
