//! What a process holds and does for peers that are idle, which are in another process.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{ConnectionState, Event, Multiaddr, Node, PublicKey};
use rustls::pki_types::CertificateDer;

use crate::ours::{self, AES, Layer, STREAM};
use crate::{argument, raw, runtime, say};

/// Prints what idle peers cost a node of each layer, and idle connections a server of quinn.
pub(crate) fn idle() {
    say("a process with idle peers, which are in another process");
    say("          layer | resident memory, per peer of 200 | on the processor, 50 peers in 30 s");
    for kind in ["raw", Layer::V1.name(), AES.name()] {
        let [memory, _] = measured(kind, 200, 5);
        let [_, busy] = measured(kind, 50, 30);
        let (kib, busy) = (memory as f64 / 1024.0, busy as f64 / 1e6);
        say(&format!("     {kind:>10} | {kib:21.1} KiB        | {busy:.0} ms"));
    }
}

/// Measures in a process of its own, which has freed nothing before: bytes per peer, and nanoseconds on the
/// processor.
fn measured(kind: &str, peers: usize, seconds: u64) -> [u64; 2] {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg(format!("hub={kind},{peers},{seconds}")).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut numbers = printed.split_whitespace().map(|number| number.parse().unwrap());
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

/// Is another process of the measurement, if that is what this one was started for.
pub(crate) fn is_part() -> bool {
    if let Some(hub) = argument("hub=") {
        measure_hub(&hub);
    } else if let Some(peers) = argument("peers=") {
        be_peers(&peers);
    } else {
        return false;
    }
    true
}

// ---- the process that is measured -----------------------------------------------------------

/// What was measured.
struct Idle {
    /// Bytes per peer.
    memory: usize,
    /// Of the whole process, in the time that was asked for.
    busy: Duration,
}

fn measure_hub(what: &str) {
    let [kind, peers, seconds] = what.split(',').collect::<Vec<_>>()[..] else {
        panic!("hub=KIND,PEERS,SECONDS");
    };
    let (peers, time) = (peers.parse().unwrap(), Duration::from_secs(seconds.parse().unwrap()));
    let idle = runtime().block_on(async {
        match kind {
            "raw" => server(peers, time).await,
            _ => hub(layer(kind), peers, time).await,
        }
    });
    println!("{} {}", idle.memory, idle.busy.as_nanos());
}

fn layer(kind: &str) -> Layer {
    if kind == AES.name() { AES } else { Layer::V1 }
}

async fn hub(layer: Layer, peers: usize, time: Duration) -> Idle {
    let node = ours::node(layer).await;
    let mut connected = node.events_for_states([ConnectionState::Connected]);
    let before = resident();
    let key = hex::encode(node.public_key().as_bytes());
    let address = node.addrs()[0].to_string();
    let child = Others::start(&[layer.name(), &peers.to_string(), &address, &key]);
    for _ in 0..peers {
        let Some(Event::State(changed)) = connected.recv().await else {
            panic!("the node stopped")
        };
        let peer = changed.peer;
        let key = PublicKey::try_from(&peer).unwrap();
        node.complete_handshake(peer, key, &[STREAM]).await.unwrap();
    }
    let idle = measure(child, peers, before, time).await;
    node.shutdown().await;
    idle
}

async fn server(peers: usize, time: Duration) -> Idle {
    let (endpoint, address, certificate) = raw::server();
    let before = resident();
    let (count, certificate) = (peers.to_string(), hex::encode(certificate));
    let child = Others::start(&["raw", &count, &address.to_string(), &certificate]);
    let mut connections = Vec::new();
    for _ in 0..peers {
        connections.push(endpoint.accept().await.unwrap().await.unwrap());
    }
    measure(child, peers, before, time).await
}

async fn measure(mut others: Others, peers: usize, before: usize, time: Duration) -> Idle {
    let others = tokio::task::spawn_blocking(move || {
        others.await_ready();
        others
    });
    let others = others.await.unwrap();
    // What the connections begin with is over.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let began = busy();
    tokio::time::sleep(time).await;
    let idle = Idle {
        memory: resident().saturating_sub(before) / peers,
        busy: busy().saturating_sub(began),
    };
    drop(others);
    idle
}

/// Returns the resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Returns how long this process has run on processors.
fn busy() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let times = std::fs::read_to_string(task.unwrap().path().join("schedstat")).ok()?;
        times.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(of_task).sum())
}

// ---- the process with the peers -------------------------------------------------------------

/// The process with the peers. They end with it.
struct Others(Child);

impl Others {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(format!("peers={}", arguments.join(","))).stdin(Stdio::piped());
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn await_ready(&mut self) {
        let output = self.0.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut String::new()).unwrap();
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn be_peers(what: &str) {
    let [kind, count, address, key] = what.split(',').collect::<Vec<_>>()[..] else {
        panic!("peers=KIND,COUNT,ADDRESS,KEY");
    };
    let (count, key) = (count.parse().unwrap(), hex::decode(key).unwrap());
    runtime().block_on(async {
        match kind {
            "raw" => dial_raw(count, address.parse().unwrap(), key).await,
            _ => dial(layer(kind), count, address.parse().unwrap(), key).await,
        }
    });
}

async fn dial(layer: Layer, count: usize, address: Multiaddr, key: Vec<u8>) {
    let key = PublicKey::from_bytes(&key).unwrap();
    let hub = PeerId::from(key);
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..count {
        let node = ours::node(layer).await;
        node.add_peer(hub, [address.clone()]).await.unwrap();
        node.connect(hub).await.unwrap();
        node.complete_handshake(hub, key, &[STREAM]).await.unwrap();
        node.wait_established(hub).await.unwrap();
        nodes.push(node);
    }
    stay().await;
}

async fn dial_raw(count: usize, address: SocketAddr, certificate: Vec<u8>) {
    let mut all = Vec::new();
    for _ in 0..count {
        let (endpoint, config) = raw::client(CertificateDer::from(certificate.clone()));
        let connecting = endpoint.connect_with(config, address, "localhost").unwrap();
        all.push((connecting.await.unwrap(), endpoint));
    }
    stay().await;
}

/// Says that all are connected, and waits until the other process has seen enough.
async fn stay() {
    println!("ready");
    std::io::stdout().flush().unwrap();
    let waiting = || std::io::stdin().read_line(&mut String::new());
    tokio::task::spawn_blocking(waiting).await.unwrap().unwrap();
}
