//! A node with a thousand peers that come and go, and one with few descriptors.
//!
//! ```text
//! cargo test -p glueberry-tests --test load [-- SECONDS PEERS]
//! ```
//!
//! First so many peers (1,000) talk with one node over raw QUIC on the loopback for so long (180 s), each
//! in sessions of a few seconds. Every accepted message must be accounted for, memory must not grow, and
//! when all have left, sessions, tasks and descriptors must be what they were. Then nodes with 64
//! descriptors get more peers than that, and must be open to a newcomer once these have left.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use glueberry_tests::fabric::Fabric;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::proto::ReconnectPolicy;
use glueberry_tokio::{Config, ConnectionState, Event, HANDSHAKE, Multiaddr, Node, PublicKey};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

const STREAM: &str = "chat";
const FEW: usize = 64;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |at: usize, default: usize| {
        words.iter().filter_map(|word| word.parse().ok()).nth(at).unwrap_or(default)
    };
    match words.first() {
        Some(&"churn") => churn(number(0, 180), number(1, 1000)),
        Some(&"hub") => {
            hub_of_few(if words.contains(&"tcp") { Fabric::Noise } else { Fabric::RawQuic })
        }
        _ => {
            let (seconds, peers) = (number(0, 180).to_string(), number(1, 1000).to_string());
            let ended = limited(8192, &["churn", &seconds, &peers]).status().expect("it runs");
            assert!(ended.success(), "the churn failed");
            for fabric in [Fabric::RawQuic, Fabric::Noise] {
                few_descriptors(fabric);
            }
        }
    }
}

/// This program again, with so many descriptors.
fn limited(descriptors: usize, words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().expect("known"))
        .args(words)
        // Else glibc takes the large buffers of sockets from its heap after a while, and resident memory
        // tells more about that than about what is held.
        .env("MALLOC_MMAP_THRESHOLD_", "131072");
    command
}

// ---- many peers that come and go --------------------------------------------------------------

/// What was sent by one identity in all its sessions.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    accepted: u64,
    unsent: u64,
    in_doubt: u64,
}

#[derive(Default)]
struct Account {
    sent: Mutex<BTreeMap<PeerId, Sent>>,
    delivered: Mutex<BTreeMap<PeerId, u64>>,
    sessions: AtomicU64,
    failed: AtomicU64,
    now: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn churn(seconds: usize, peers: usize) {
    let (hubs, others) = (runtime(1), runtime(2));
    let mut config = Config::default();
    config.core.max_sessions = 2 * peers;
    config.core.sessions_high = 2 * peers - 100;
    config.core.max_sessions_per_minute = 1000;
    let hub = hubs.block_on(hubs.spawn(node(Fabric::RawQuic, config, true))).expect("no panic");
    let account = Arc::new(Account::default());
    drop(hubs.spawn(serve(hub.clone(), Some(account.clone()))));
    others.block_on(async { sleep(Duration::from_millis(500)).await });
    let tasks = || hubs.metrics().num_alive_tasks();
    let (tasks_before, descriptors_before) = (tasks(), descriptors());

    let until = Instant::now() + Duration::from_secs(u64::try_from(seconds).expect("few"));
    let began = Instant::now();
    let slots: Vec<_> = (0..peers)
        .map(|number| {
            let (account, hub) = (account.clone(), hub.clone());
            others.spawn(lives(
                number,
                hub.peer_id(),
                hub.public_key(),
                hub.addrs(),
                account,
                until,
            ))
        })
        .collect();
    println!(
        "seconds  sessions now  sessions so far  failed dials  messages  resident MiB  tasks  descriptors"
    );
    let mut resident_early = 0;
    while Instant::now() < until {
        others.block_on(async { sleep(Duration::from_secs(10)).await });
        let sent: u64 = lock(&account.sent).values().map(|sent| sent.accepted).sum();
        println!(
            "{:>7}  {:>12}  {:>15}  {:>12}  {:>8}  {:>12}  {:>5}  {:>11}",
            began.elapsed().as_secs(),
            account.now.load(Ordering::Relaxed),
            account.sessions.load(Ordering::Relaxed),
            account.failed.load(Ordering::Relaxed),
            sent,
            resident() / MIB,
            tasks(),
            descriptors()
        );
        if resident_early == 0
            && began.elapsed().as_secs() * 2 >= u64::try_from(seconds).expect("few")
        {
            resident_early = resident();
        }
    }
    let resident_late = resident();
    for slot in slots {
        others.block_on(slot).expect("no panic");
    }
    let mut waited = 0;
    let state = loop {
        let state = others.block_on(hub.debug_state()).expect("it runs");
        if (state.sessions == 0 && tasks() <= tasks_before && descriptors() <= descriptors_before)
            || waited > 600
        {
            break state;
        }
        waited += 1;
        others.block_on(async { sleep(Duration::from_millis(100)).await });
    };
    println!(
        "at the end: {} sessions, {} bytes held, tasks {} -> {}, descriptors {} -> {}, resident {} MiB in the middle, {} MiB at the end, {} MiB when all had left",
        state.sessions,
        state.held_bytes,
        tasks_before,
        tasks(),
        descriptors_before,
        descriptors(),
        resident_early / MIB,
        resident_late / MIB,
        resident() / MIB
    );
    let (sent, delivered) = (lock(&account.sent), lock(&account.delivered));
    let mut total = Sent::default();
    for (peer, sent) in sent.iter() {
        let delivered = delivered.get(peer).copied().unwrap_or_default();
        let most = sent.accepted - sent.unsent;
        assert!(delivered <= most && delivered + sent.in_doubt >= most, "{delivered} of {sent:?}");
        total.accepted += sent.accepted;
        total.unsent += sent.unsent;
        total.in_doubt += sent.in_doubt;
    }
    println!("{total:?}, {} delivered", delivered.values().sum::<u64>());
    assert_eq!((state.sessions, state.held_bytes), (0, 0));
    assert!(tasks() <= tasks_before && descriptors() <= descriptors_before);
    assert!(resident_late < resident_early + resident_early / 8 + 16 * MIB, "memory grows");
    // On a busy machine most dials take too long.
    assert!(account.sessions.load(Ordering::Relaxed) * 10 > u64::try_from(peers).expect("few"));
}

/// One identity, which comes and goes.
async fn lives(
    number: usize,
    hub: PeerId,
    key: PublicKey,
    addrs: Vec<Multiaddr>,
    account: Arc<Account>,
    until: Instant,
) {
    let identity = Keypair::generate_ed25519();
    let mut draw = u64::try_from(number).expect("few");
    let mut random = move |most: u64| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) % most
    };
    sleep(Duration::from_millis(random(20_000))).await;
    while Instant::now() < until {
        let node = Node::builder(identity.clone()).config(once()).streams([STREAM]);
        let node = Fabric::RawQuic.build(node).await.expect("built");
        let mut events = node.events();
        node.add_peer(hub, addrs.clone()).await.expect("added");
        let established = async {
            node.connect(hub).await?;
            node.send(hub, HANDSHAKE, node.public_key().as_bytes().to_vec()).await?;
            node.complete_handshake(hub, key, &[STREAM]).await
        };
        if timeout(Duration::from_secs(60), established).await.is_ok_and(|result| result.is_ok()) {
            account.sessions.fetch_add(1, Ordering::Relaxed);
            account.now.fetch_add(1, Ordering::Relaxed);
            let mut accepted = 0;
            for _ in 0..random(60) {
                let message = vec![7; usize::try_from(random(4000)).expect("few")];
                accepted += u64::from(node.send(hub, STREAM, message).await.is_ok());
                sleep(Duration::from_millis(random(600))).await;
            }
            account.now.fetch_sub(1, Ordering::Relaxed);
            lock(&account.sent).entry(node.peer_id()).or_default().accepted += accepted;
        } else {
            account.failed.fetch_add(1, Ordering::Relaxed);
        }
        node.shutdown().await;
        drop(node);
        while let Some(event) = events.recv().await {
            if let Event::SessionClosed { closed, .. } = event {
                let mut sent = lock(&account.sent);
                let sent = sent.entry(identity.public().to_peer_id()).or_default();
                sent.unsent += u64::try_from(closed.unsent).expect("few");
                sent.in_doubt += closed.in_doubt;
            }
        }
        sleep(Duration::from_millis(random(3_000))).await;
    }
}

/// The application of a hub: completes every handshake, and counts.
async fn serve(node: Node, account: Option<Arc<Account>>) {
    let mut messages = node.messages().expect("first");
    while let Some(message) = messages.recv().await {
        if message.is_handshake() {
            let (node, peer) = (node.clone(), message.peer);
            if let Ok(key) = PublicKey::from_bytes(&message.data) {
                // The session may be over by then.
                drop(tokio::spawn(
                    async move { node.complete_handshake(peer, key, &[STREAM]).await },
                ));
            }
        } else if let Some(account) = &account {
            *lock(&account.delivered).entry(message.peer).or_default() += 1;
        }
    }
}

// ---- few descriptors --------------------------------------------------------------------------

fn few_descriptors(fabric: Fabric) {
    let word = if fabric.is_datagrams() { "quic" } else { "tcp" };
    let hub = limited(FEW, &["hub", word]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut hub = Hub(hub.expect("it runs"));
    let mut line = String::new();
    let output = hub.0.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("it says its address");
    let (peer, address) = line.trim().split_once(' ').expect("two words");
    let (peer, address): (PeerId, Multiaddr) =
        (peer.parse().expect("a peer"), address.parse().expect("an address"));
    let others = runtime(2);
    others.block_on(async {
        let mut crowd = Vec::new();
        for _ in 0..2 * FEW {
            let node = node(fabric, once(), false).await;
            node.add_peer(peer, [address.clone()]).await.expect("added");
            let dialling = node.clone();
            let dial = tokio::spawn(async move { dialling.connect(peer).await.is_ok() });
            crowd.push((node, dial));
        }
        let mut connected = 0;
        for (_, dial) in &mut crowd {
            connected += usize::from(dial.await.expect("no panic"));
        }
        println!("{FEW} descriptors over {fabric}: {connected} of {} peers connected", 2 * FEW);
        assert!(connected > 0);
        for (node, _) in crowd {
            node.shutdown().await;
        }
        let began = Instant::now();
        let newcomer = node(fabric, once(), false).await;
        newcomer.add_peer(peer, [address]).await.expect("added");
        while newcomer.connect(peer).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "it has not recovered");
            sleep(Duration::from_millis(200)).await;
        }
        newcomer
            .send(peer, HANDSHAKE, newcomer.public_key().as_bytes().to_vec())
            .await
            .expect("said");
        let key = PublicKey::try_from(&peer).expect("ed25519");
        newcomer.complete_handshake(peer, key, &[STREAM]).await.expect("completed");
        println!(
            "{FEW} descriptors over {fabric}: a newcomer Established {:?} after they left",
            began.elapsed()
        );
        assert_eq!(newcomer.connection_state(peer), ConnectionState::Established);
        newcomer.shutdown().await;
    });
}

/// A process that is to end with this one.
struct Hub(Child);

impl Drop for Hub {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

fn hub_of_few(fabric: Fabric) {
    let runtime = runtime(1);
    runtime.block_on(async {
        let node = node(fabric, Config::default(), true).await;
        println!("{} {}", node.peer_id(), node.addrs()[0]);
        serve(node, None).await;
    });
}

// ---- parts ------------------------------------------------------------------------------------

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime")
}

async fn node(fabric: Fabric, config: Config, listens: bool) -> Node {
    let mut node = Node::builder(Keypair::generate_ed25519()).config(config).streams([STREAM]);
    if listens {
        node = node.listen(fabric.listen());
    }
    fabric.build(node).await.expect("built")
}

fn once() -> Config {
    let mut config = Config::default();
    config.core.reconnect = ReconnectPolicy::never();
    config
}

/// Returns how many descriptors this process has open; 0 where the system does not say.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Returns how many bytes of this process are in memory; 0 where the system does not say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or_default() * 1024
}

const MIB: usize = 1024 * 1024;
