//! A mesh: every node dials the others, and shows who is there in a table.
//!
//! ```text
//! cargo run --release -p glueberry-examples --bin cluster
//! cargo run --release -p glueberry-examples --bin cluster -- --identity b.key MULTIADDR…
//! ```
//!
//! Each node tells its peers the addresses that it knows, so that one address is enough to join.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use glueberry_examples::stopped;
use glueberry_tokio::identity::{self, PeerId};
use glueberry_tokio::multiaddr::Protocol;
use glueberry_tokio::{
    Config, ConnectionState, Event, Handshake, Multiaddr, Node, ReconnectPolicy,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Joins a mesh, or begins one.
#[derive(Parser)]
struct Cli {
    /// Addresses of nodes of the mesh, each ending in /p2p/PEER.
    join: Vec<Multiaddr>,
    /// Where to listen.
    #[arg(long, default_value = "/ip4/127.0.0.1/udp/0/quic-v1")]
    listen: Multiaddr,
    /// The file that holds this node's identity; created if it is missing.
    #[arg(long, default_value = "cluster.key")]
    identity: PathBuf,
    /// Ends once that many peers are there.
    #[arg(long)]
    until: Option<usize>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let names_a_peer = |it: &&Multiaddr| matches!(it.iter().last(), Some(Protocol::P2p(_)));
    if let Some(address) = cli.join.iter().find(|it| !names_a_peer(it)) {
        return Err(format!("{address} does not end with /p2p/ and the peer's id").into());
    }
    let stopped = stopped()?;
    let mut config = Config::default();
    config.core.reconnect = ReconnectPolicy::unlimited();
    let node = Node::builder(identity::load_or_create(&cli.identity)?)
        .config(config)
        .listen(cli.listen)
        .streams(["members"])
        .handshake(Handshake::accept_all())
        .build()
        .await?;
    for address in node.dial_addrs() {
        say(&format!("to join: {address}"));
    }
    let mut mesh = Mesh { node: node.clone(), members: BTreeMap::new(), drawn: 0 };
    for address in cli.join {
        mesh.learn(&address);
    }
    let result = tokio::select! {
        result = mesh.run(cli.until) => result,
        () = stopped => Ok(()),
    };
    node.shutdown().await;
    result
}

struct Mesh {
    node: Node,
    /// Addresses of all members that were heard of.
    members: BTreeMap<PeerId, Multiaddr>,
    /// Lines of the table on the screen.
    drawn: usize,
}

impl Mesh {
    async fn run(&mut self, until: Option<usize>) -> Result<()> {
        let mut events = self.node.events();
        let mut messages = self.node.messages().ok_or("messages were taken")?;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        // The others are to see the same, by what they hear from this one. Where two of them dial each
        // other at once, the session that is kept may be probed first.
        let (mut leaves_at, patience) = (None, Config::default().core.probe_timeout * 2);
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(Event::State(changed)) => {
                        if changed.state == ConnectionState::Established {
                            self.tell_all();
                        }
                        self.draw();
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                message = messages.recv() => match message {
                    Some(message) => self.hear(&message.data),
                    None => return Ok(()),
                },
                _ = tick.tick() => self.draw(),
            }
            let established = |it: &ConnectionState| *it == ConnectionState::Established;
            let peers = self.node.connected();
            let count = peers.iter().filter(|peer| established(&peer.state)).count();
            if leaves_at.is_none() && until.is_some_and(|until| count >= until) {
                say(&format!("{count} peers are there"));
                leaves_at = Some(Instant::now() + patience);
            }
            if leaves_at.is_some_and(|at| at <= Instant::now()) {
                return Ok(());
            }
        }
    }

    /// Tells every peer the addresses of all members.
    fn tell_all(&self) {
        let known = self.members.values().cloned().chain(self.node.dial_addrs());
        let text: Vec<String> = known.map(|address| address.to_string()).collect();
        for (peer, error) in self.node.broadcast("members", text.join("\n")) {
            say(&format!("{peer} was not told: {error}"));
        }
    }

    fn hear(&mut self, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let before = self.members.len();
        for address in text.lines().take(MAX_MEMBERS).filter_map(|line| line.parse().ok()) {
            self.learn(&address);
        }
        // Each address is passed on once, so this comes to an end.
        if self.members.len() > before {
            self.tell_all();
        }
    }

    /// Dials a member that is new, in the background.
    fn learn(&mut self, address: &Multiaddr) {
        let Some(Protocol::P2p(peer)) = address.iter().last() else { return };
        let is_known = self.members.contains_key(&peer) || peer == self.node.peer_id();
        if is_known || self.members.len() >= MAX_MEMBERS {
            return;
        }
        self.members.insert(peer, address.clone());
        // Of two nodes that learn of each other, both may dial: one session is kept.
        let (node, address) = (self.node.clone(), address.clone());
        tokio::spawn(async move {
            // The state in the table tells the outcome; the node dials again by itself.
            node.dial(address).await.ok();
        });
    }

    /// Draws the table in place of the one before.
    fn draw(&mut self) {
        if !io::stdout().is_terminal() {
            return;
        }
        let mut lines =
            vec![format!("{:<8} {:<12} {:<9} {:>8} {:>7}", "peer", "state", "way", "rtt", "for")];
        let connected = self.node.connected();
        for peer in &connected {
            let rtt = peer.round_trip.map_or_else(String::new, |it| format!("{it:.1?}"));
            let age = SystemTime::now().duration_since(peer.since).unwrap_or_default().as_secs();
            let (id, way) = (short(peer.peer), format!("{:?}", peer.direction));
            lines.push(format!(
                "{id:<8} {:<12} {way:<9} {rtt:>8} {age:>5} s",
                peer.state.to_string()
            ));
        }
        for peer in self.members.keys() {
            if !connected.iter().any(|it| it.peer == *peer) {
                let state = self.node.connection_state(*peer).to_string();
                lines.push(format!("{:<8} {state:<12}", short(*peer)));
            }
        }
        if self.drawn > 0 {
            say(&format!("\x1b[{}A\x1b[J{}", self.drawn, lines.join("\n")));
        } else {
            say(&lines.join("\n"));
        }
        self.drawn = lines.len();
    }
}

fn short(peer: PeerId) -> String {
    let text = peer.to_string();
    text.chars().skip(text.len().saturating_sub(8)).collect()
}

fn say(text: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

const MAX_MEMBERS: usize = 1000;
