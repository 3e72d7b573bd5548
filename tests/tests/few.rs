//! Nodes with 64 descriptors: against more peers than that, silent connections, garbage, and targets that
//! never answer.
//!
//! ```text
//! cargo test -p glueberry-tests --test few [-- WORD...]
//! ```
//!
//! Words choose by transport and attack. The node is in a process of its own, over raw QUIC or over
//! libp2p's TCP. In each case it must not end, panic, or take a processor for itself while nothing can be
//! done, and afterwards an honest peer must get in: Established, and a message there and back.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ExitCode, Stdio};
use std::time::{Duration, Instant};

use glueberry_tests::crowd::{limited, node, once, runtime, serve};
use glueberry_tests::fabric::Fabric;
use glueberry_tests::party::STREAM;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{Config, HANDSHAKE, Multiaddr, Node, PublicKey};
use tokio::time::{sleep, timeout};

const FEW: usize = 64;

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if let [hub, over] = &words[..]
        && hub == "hub"
    {
        run_hub(if over == "tcp" { Fabric::Noise } else { Fabric::RawQuic });
        return ExitCode::SUCCESS;
    }
    println!("over  attack     {:<44} processor  honest peer in", "while it lasts");
    let mut played = 0;
    for fabric in [Fabric::RawQuic, Fabric::Noise] {
        for attack in [Attack::Crowd, Attack::Silence, Attack::Garbage, Attack::Targets] {
            let head = format!("{:<5} {:<10}", over(fabric), format!("{attack:?}"));
            if words.iter().all(|word| head.to_lowercase().contains(&word.to_lowercase())) {
                println!("{head} {}", play(fabric, attack));
                played += 1;
            }
        }
    }
    println!("{played} passed, 0 failed");
    ExitCode::SUCCESS
}

const fn over(fabric: Fabric) -> &'static str {
    if fabric.is_datagrams() { "quic" } else { "tcp" }
}

/// What is done to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// Twice as many honest peers as it has descriptors.
    Crowd,
    /// Connections that say nothing: of TCP, or first flights of QUIC without an end.
    Silence,
    /// Connections that say what nobody understands.
    Garbage,
    /// It dials what never answers.
    Targets,
}

/// Plays one attack; returns what was seen.
fn play(fabric: Fabric, attack: Attack) -> String {
    let mut hub = Hub::start(fabric);
    let others = runtime(2);
    others.block_on(async {
        let seen = match attack {
            Attack::Crowd => crowd(&hub, fabric).await,
            Attack::Silence => strangers(&hub, fabric, &[]).await,
            Attack::Garbage => strangers(&hub, fabric, &[0xff; 1200]).await,
            Attack::Targets => targets(&mut hub, fabric).await,
        };
        let began = Instant::now();
        visit(&hub, fabric).await;
        hub.check();
        format!("{seen}  {:.1} s", began.elapsed().as_secs_f64())
    })
}

/// Takes the processor's time of the node while nothing changes.
async fn watch(hub: &Hub, seen: String) -> String {
    let before = hub.processor();
    sleep(WATCHED).await;
    let used = hub.processor().saturating_sub(before);
    assert!(used < WATCHED / 2, "the node took {used:?} of {WATCHED:?} to do nothing");
    format!("{seen:<44} {:>7.0} %", 100.0 * used.as_secs_f64() / WATCHED.as_secs_f64())
}

async fn crowd(hub: &Hub, fabric: Fabric) -> String {
    let mut crowd = Vec::new();
    for _ in 0..2 * FEW {
        let node = node(fabric, once(), false).await;
        node.add_peer(hub.peer, [hub.address.clone()]).await.expect("added");
        let (dialling, peer) = (node.clone(), hub.peer);
        let dial = tokio::spawn(async move { dialling.connect(peer).await.is_ok() });
        crowd.push((node, dial));
    }
    let mut connected = 0;
    for (_, dial) in &mut crowd {
        connected += usize::from(dial.await.expect("no panic"));
    }
    assert!(connected > 0);
    let seen = watch(hub, format!("{connected} of {} peers Connected", 2 * FEW)).await;
    for (node, _) in crowd {
        node.shutdown().await;
    }
    seen
}

/// Connections that are opened and held, each with these bytes.
async fn strangers(hub: &Hub, fabric: Fabric, says: &[u8]) -> String {
    let to = hub.socket();
    if fabric.is_datagrams() {
        let sockets: Vec<_> =
            (0..4 * FEW).map(|_| UdpSocket::bind("127.0.0.1:0").expect("bound")).collect();
        for (number, socket) in sockets.iter().enumerate() {
            let first = first_flight(u8::try_from(number % 251).expect("a byte"), says);
            // What the system drops is as good as lost on the way.
            drop(socket.send_to(&first, to));
        }
        return watch(hub, format!("{} first flights", sockets.len())).await;
    }
    let mut sockets = Vec::new();
    for _ in 0..4 * FEW {
        let Ok(mut socket) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else {
            break; // The system keeps no more for the node to accept.
        };
        drop(socket.write_all(says));
        sockets.push(socket);
    }
    assert!(sockets.len() > FEW, "the system kept {} connections", sockets.len());
    watch(hub, format!("{} connections are held", sockets.len())).await
}

/// The first datagram of a connection of QUIC v1, whose content does not open.
fn first_flight(number: u8, says: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc0, 0, 0, 0, 1, 8];
    packet.extend([number; 8]);
    packet.extend([8, number, 2, 3, 4, 5, 6, 7, 8, 0, 0x44, 0x90]);
    packet.extend(says);
    packet.resize(1200, number);
    packet
}

/// The node dials twice as many peers as it has descriptors, none of which ever answers.
async fn targets(hub: &mut Hub, fabric: Fabric) -> String {
    let count = 2 * FEW;
    let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let address = if fabric.is_datagrams() {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
            let port = socket.local_addr().expect("bound").port();
            sockets.push(socket);
            format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
        } else {
            // The system takes connections for it, and nobody reads what comes.
            let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
            let port = listener.local_addr().expect("bound").port();
            listeners.push(listener);
            format!("/ip4/127.0.0.1/tcp/{port}")
        };
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        writeln!(hub.input, "{peer} {address}").expect("it listens");
    }
    watch(hub, format!("dials {count} targets")).await
}

/// An honest peer gets in, by trying for a while.
async fn visit(hub: &Hub, fabric: Fabric) {
    let began = Instant::now();
    let visitor = node(fabric, once(), false).await;
    let mut messages = visitor.messages().expect("first");
    visitor.add_peer(hub.peer, [hub.address.clone()]).await.expect("added");
    loop {
        match timeout(Duration::from_secs(20), greet(&visitor, hub.peer)).await {
            Ok(Ok(())) => break,
            failed => assert!(began.elapsed() < PATIENCE, "nobody gets in: {failed:?}"),
        }
        drop(visitor.disconnect(hub.peer).await);
        sleep(Duration::from_millis(200)).await;
    }
    visitor.send(hub.peer, STREAM, "anybody here?").await.expect("sent");
    let echo = timeout(PATIENCE, async {
        loop {
            match messages.recv().await {
                Some(message) if !message.is_handshake() => break message.data,
                Some(_) => {}
                None => panic!("the visitor ended"),
            }
        }
    });
    assert_eq!(echo.await.expect("in time"), "anybody here?");
    visitor.shutdown().await;
}

async fn greet(visitor: &Node, peer: PeerId) -> Result<(), glueberry_tokio::Error> {
    visitor.connect(peer).await?;
    visitor.send(peer, HANDSHAKE, visitor.public_key().as_bytes().to_vec()).await?;
    let key = PublicKey::try_from(&peer).expect("ed25519");
    visitor.complete_handshake(peer, key, &[STREAM]).await
}

/// A node in a process that ends with this value.
struct Hub {
    child: Child,
    input: ChildStdin,
    peer: PeerId,
    address: Multiaddr,
}

impl Hub {
    fn start(fabric: Fabric) -> Self {
        let child = limited(FEW, &["hub", over(fabric)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("it runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("it says its address");
        let (peer, address) = line.trim().split_once(' ').expect("two words");
        let (peer, address) = (peer.parse().expect("a peer"), address.parse().expect("an address"));
        let input = child.stdin.take().expect("piped");
        Self { child, input, peer, address }
    }

    fn socket(&self) -> SocketAddr {
        let text = self.address.to_string();
        let port = text.split('/').nth(4).and_then(|port| port.parse().ok()).expect("a port");
        ([127, 0, 0, 1], port).into()
    }

    /// Returns how long the process has had a processor, as Linux tells; nothing elsewhere.
    fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        // Programs see a hundredth of a second for a tick whatever the kernel counts.
        Duration::from_millis(10 * ticks)
    }

    fn check(&mut self) {
        let ended = self.child.try_wait().expect("it is ours");
        assert!(ended.is_none(), "the node ended: {ended:?}");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}

/// The node: sends back what it gets, and dials what it is told to.
fn run_hub(fabric: Fabric) {
    std::panic::set_hook(Box::new(|panic| {
        println!("{panic}");
        std::process::abort();
    }));
    runtime(1).block_on(async {
        let node = node(fabric, Config::default(), true).await;
        println!("{} {}", node.peer_id(), node.addrs()[0]);
        let (dialler, handle) = (node.clone(), tokio::runtime::Handle::current());
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let (peer, address) = line.split_once(' ').expect("two words");
                let (peer, address): (PeerId, Multiaddr) =
                    (peer.parse().expect("a peer"), address.parse().expect("an address"));
                let node = dialler.clone();
                handle.spawn(async move {
                    node.add_peer(peer, [address]).await.expect("added");
                    // It never answers.
                    drop(node.connect(peer).await);
                });
            }
        });
        serve(node, |node, message| {
            // The session may be over by then.
            drop(node.try_send(message.peer, STREAM, message.data));
        })
        .await;
    });
}

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// How long an honest peer may try on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
