//! Numbered messages both ways between two processes, over a network that may fail, and an account
//! of them: `tests/netem/run` puts the two on bad networks and compares their accounts.
//!
//! ```text
//! both_ways listen TRANSPORT LISTEN SECONDS SETTLE       prints its address
//! both_ways dial TRANSPORT ADDRESS SECONDS SETTLE
//! ```
//!
//! TRANSPORT is `raw` for raw QUIC, or `tcp` or `quic` for libp2p. Each side sends for SECONDS, about
//! 100 messages a second, over however many sessions that takes. Then it marks messages as the last
//! ones, until it has received such a one, at most for SETTLE seconds, shuts down, and prints its
//! account as one line of JSON.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::proto::ReconnectPolicy;
use glueberry_tokio::{
    Config, ConnectionState, Event, Events, HANDSHAKE, Message, Messages, Multiaddr, Node,
    PublicKey,
};
use libp2p::multiaddr::Protocol;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

const STREAM: &str = "numbers";
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_AT_END: Duration = Duration::from_millis(500);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Sends numbered messages both ways for a while, and prints an account of them.
#[derive(Parser)]
struct Cli {
    /// Which of the two this process is.
    role: Role,
    /// `raw` is raw QUIC; `tcp` and `quic` are libp2p's.
    #[arg(value_parser = ["raw", "tcp", "quic"])]
    transport: String,
    /// Where to listen, or the address that the listener has printed.
    address: Multiaddr,
    /// For how many seconds to send.
    seconds: u64,
    /// For how many seconds at most to wait for the peer's last message.
    settle: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Listen,
    Dial,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Cli { role, transport, address, seconds, settle } = Cli::parse();
    let transport = transport.as_str();
    let times =
        Times { sending: Duration::from_secs(seconds), settling: Duration::from_secs(settle) };
    match role {
        Role::Listen => {
            let node = node(transport, Some(address)).await?;
            let own = node.addrs().into_iter().next().ok_or("it does not listen")?;
            say(format_args!("{}", own.with_p2p(node.peer_id()).map_err(|_| "no address")?));
            account(node, None, times).await
        }
        Role::Dial => {
            let Some(Protocol::P2p(peer)) = address.iter().last() else {
                return Err("the address must end in /p2p/PEER".into());
            };
            let node = node(transport, None).await?;
            node.add_peer(peer, [address]).await?;
            account(node, Some(peer), times).await
        }
    }
}

struct Times {
    sending: Duration,
    settling: Duration,
}

async fn node(transport: &str, listen: Option<Multiaddr>) -> Result<Node> {
    let mut config = Config::default();
    // The dialler comes back soon, so that a run is short. Silence is noticed as by default.
    config.core.reconnect = ReconnectPolicy::unlimited();
    config.core.reconnect.initial_backoff = Duration::from_millis(500);
    config.core.reconnect.max_backoff = Duration::from_secs(2);
    config.core.cooldown = Duration::from_secs(1);
    config.core.dial_timeout = Duration::from_secs(10);
    config.core.drain_timeout = Duration::from_secs(10);
    config.event_buffer = 10_000;
    let builder = Node::builder(Keypair::generate_ed25519()).config(config).streams([STREAM]);
    let builder = listen.into_iter().fold(builder, |builder, listen| builder.listen(listen));
    let mut over = Libp2p::bare();
    (over.identify, over.ping) = (true, true);
    match transport {
        "raw" => return Ok(builder.build().await?),
        "tcp" => (over.tcp, over.tls, over.noise) = (true, true, true),
        "quic" => over.quic = true,
        other => return Err(format!("raw, tcp or quic, not {other}").into()),
    }
    Ok(builder.build_over(over).await?)
}

/// Exchanges messages with the first peer that comes, and prints the account.
async fn account(node: Node, dialled: Option<PeerId>, times: Times) -> Result<()> {
    let mut events = node.events();
    let mut messages = node.messages().ok_or("taken")?;
    if let Some(peer) = dialled {
        // A dial that fails is tried again by itself.
        drop(node.connect(peer).await);
    }
    let sent = Arc::new(Sent::default());
    let began = Instant::now();
    let (last, end) = (began + times.sending, began + times.sending + times.settling);
    let sending = tokio::spawn(send(node.clone(), sent.clone(), last));
    let (mut received, mut sessions) = (Received::default(), Sessions::default());
    loop {
        tokio::select! {
            message = messages.recv() => {
                let message = message.ok_or("the node has stopped")?;
                if message.is_handshake() {
                    // It may fail because the session has ended; the next one begins anew.
                    drop(answer(&node, &message, dialled.is_some()).await);
                } else {
                    received.take(&message.data);
                }
            }
            event = events.recv() => {
                let event = event.ok_or("the node has stopped")?;
                match event.state() {
                    Some((peer, ConnectionState::Connected)) if dialled == Some(peer) => {
                        drop(hello(&node, peer).await);
                    }
                    _ => {}
                }
                sent.note_peer(&event);
                sessions.take(&event);
            }
            () = sleep_until(end) => break,
        }
        if received.has_last && sent.last.load(Ordering::Relaxed) > 0 {
            break;
        }
    }
    sending.abort();
    // What was being sent is accepted or not by now: nothing else counts it.
    drop(sending.await);
    finish(node, &mut messages, &mut events, &mut received, &mut sessions).await;
    print(&sent, &received, &sessions);
    Ok(())
}

async fn hello(node: &Node, peer: PeerId) -> Result<()> {
    Ok(node.send(peer, HANDSHAKE, node.public_key().as_bytes().to_vec()).await?)
}

/// The dialler says its key, the listener answers with its own; then both are done.
async fn answer(node: &Node, message: &Message, is_dialler: bool) -> Result<()> {
    let key = PublicKey::from_bytes(&message.data)?;
    node.prepare_streams(message.peer, key, &[STREAM]).await?;
    if !is_dialler {
        hello(node, message.peer).await?;
    }
    Ok(node.finalize_handshake(message.peer).await?)
}

/// Shuts down, and takes what arrives meanwhile.
async fn finish(
    node: Node,
    messages: &mut Messages,
    events: &mut Events,
    received: &mut Received,
    sessions: &mut Sessions,
) {
    let stopping = async {
        node.shutdown().await;
        drop(node);
    };
    let taking = async {
        while let Some(message) = messages.recv().await {
            if !message.is_handshake() {
                received.take(&message.data);
            }
        }
    };
    let noting = async {
        while let Some(event) = events.recv().await {
            sessions.take(&event);
        }
    };
    tokio::join!(stopping, taking, noting);
}

/// What this side sent.
#[derive(Default)]
struct Sent {
    accepted: AtomicU64,
    /// Of these, how many were marked as the last ones.
    last: AtomicU64,
    peer: std::sync::OnceLock<PeerId>,
}

impl Sent {
    fn note_peer(&self, event: &Event) {
        if let Some((peer, ConnectionState::Established)) = event.state() {
            let _ = self.peer.get_or_init(|| peer);
        }
    }
}

/// Sends numbered messages whenever there is a session, for ever.
async fn send(node: Node, sent: Arc<Sent>, last: Instant) {
    loop {
        let is_last = Instant::now() >= last;
        sleep(if is_last { PAUSE_AT_END } else { PAUSE }).await;
        let Some(&peer) = sent.peer.get() else {
            continue;
        };
        if node.connection_state(peer) != ConnectionState::Established {
            continue;
        }
        let number = sent.accepted.load(Ordering::Relaxed);
        // One that waits for room when the time is over gives way to the last ones.
        let until = if is_last { Instant::now() + Duration::from_secs(3600) } else { last };
        let sending = node.send(peer, STREAM, message(number, is_last));
        if matches!(timeout_at(until, sending).await, Ok(Ok(()))) {
            sent.accepted.store(number + 1, Ordering::Relaxed);
            sent.last.fetch_add(is_last.into(), Ordering::Relaxed);
        }
    }
}

/// Whether it is one of the last, its number, and bytes that follow from the number.
fn message(number: u64, is_last: bool) -> Vec<u8> {
    let [low, ..] = number.to_le_bytes();
    let len = usize::try_from(number * 7919 % 1024).unwrap_or_default();
    let mut message = vec![u8::from(is_last)];
    message.extend(number.to_be_bytes());
    message.resize(9 + len, low);
    message
}

/// What this side received.
#[derive(Default)]
struct Received {
    numbers: BTreeSet<u64>,
    repeated: u64,
    reordered: u64,
    altered: u64,
    has_last: bool,
}

impl Received {
    fn take(&mut self, data: &[u8]) {
        let split = data.split_first().and_then(|(mark, rest)| Some((*mark, rest.first_chunk()?)));
        let Some((mark, number)) = split else {
            self.altered += 1;
            return;
        };
        let number = u64::from_be_bytes(*number);
        if data != message(number, mark == 1) {
            self.altered += 1;
            return;
        }
        self.has_last |= mark == 1;
        let is_behind = self.numbers.last().is_some_and(|highest| number < *highest);
        if !self.numbers.insert(number) {
            self.repeated += 1;
        } else if is_behind {
            self.reordered += 1;
        }
    }
}

/// What sessions reported.
#[derive(Default)]
struct Sessions {
    established: u64,
    closed: u64,
    unsent: u64,
    in_doubt: u64,
    not_received: u64,
    rejected: u64,
    missed_events: u64,
}

impl Sessions {
    fn take(&mut self, event: &Event) {
        match event {
            Event::State(changed) if changed.state == ConnectionState::Established => {
                self.established += 1;
            }
            Event::SessionClosed { closed, .. } => {
                self.closed += 1;
                self.unsent += u64::try_from(closed.unsent).unwrap_or(u64::MAX);
                self.in_doubt += closed.in_doubt;
                self.not_received += closed.not_received;
            }
            Event::RecordRejected { .. } => self.rejected += 1,
            Event::Lagged { missed } => self.missed_events += missed,
            _ => {}
        }
    }
}

fn print(sent: &Sent, received: &Received, sessions: &Sessions) {
    let fields = [
        ("accepted", sent.accepted.load(Ordering::Relaxed)),
        ("last", sent.last.load(Ordering::Relaxed)),
        ("delivered", u64::try_from(received.numbers.len()).unwrap_or(u64::MAX)),
        ("unsent", sessions.unsent),
        ("in_doubt", sessions.in_doubt),
        ("not_received", sessions.not_received),
        ("repeated", received.repeated),
        ("reordered", received.reordered),
        ("altered", received.altered),
        ("rejected", sessions.rejected),
        ("sessions", sessions.established),
        ("closed", sessions.closed),
        ("missed_events", sessions.missed_events),
    ];
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    say(format_args!("{{{}}}", fields.join(", ")));
}

fn say(text: impl std::fmt::Display) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
