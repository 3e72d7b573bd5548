//! A node with a thousand peers that come and go.
//!
//! ```text
//! cargo test -p glueberry-tests --test load [-- SECONDS PEERS]
//! ```
//!
//! First so many peers (1,000) talk with one node over raw QUIC on the loopback for so long (180 s), each
//! in sessions of a few seconds. Every accepted message must be accounted for, memory must not grow, and
//! when all have left, sessions, tasks and descriptors must be what they were.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use glueberry_tests::crowd::{limited, node, once, runtime, serve};
use glueberry_tests::fabric::Fabric;
use glueberry_tests::party::STREAM;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{
    Config, ConnectionState, Event, Events, HANDSHAKE, Multiaddr, Node, PublicKey,
};
use tokio::time::{sleep, timeout};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |at: usize, default: usize| {
        words.iter().filter_map(|word| word.parse().ok()).nth(at).unwrap_or(default)
    };
    match words.first() {
        Some(&"churn") => churn(number(0, 180), number(1, 1000)),
        _ => {
            let (seconds, peers) = (number(0, 180).to_string(), number(1, 1000).to_string());
            let ended = limited(8192, &["churn", &seconds, &peers]).status().expect("it runs");
            assert!(ended.success(), "the churn failed");
        }
    }
}

// ---- many peers that come and go --------------------------------------------------------------

/// What was sent by one identity in all its sessions.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    accepted: u64,
    /// And what by the peer's word was not received.
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
    /// Sessions of the hub that were Established, that have ended, and events that it has missed.
    events: [AtomicU64; 3],
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
    let counted = account.clone();
    drop(hubs.spawn(serve(hub.clone(), move |_, message| {
        *lock(&counted.delivered).entry(message.peer).or_default() += 1;
    })));
    drop(hubs.spawn(watch(hub.events(), account.clone())));
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
        "seconds  sessions now  sessions so far  failed dials  messages  resident MiB  tasks  descriptors  processor"
    );
    let mut used = processor();
    let mut resident_early = 0;
    while Instant::now() < until {
        others.block_on(async { sleep(Duration::from_secs(10)).await });
        tell(began.elapsed().as_secs(), &account, tasks(), processor() - used);
        used = processor();
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
    check_messages(&account);
    check_events(&account);
    assert_eq!((state.sessions, state.held_bytes), (0, 0));
    assert!(tasks() <= tasks_before && descriptors() <= descriptors_before);
    assert!(resident_late < resident_early + resident_early / 8 + 16 * MIB, "memory grows");
    // On a busy machine most dials take too long.
    assert!(account.sessions.load(Ordering::Relaxed) * 10 > u64::try_from(peers).expect("few"));
}

/// Prints a row of the table; `used` is the processor's time in the last 10 s, in hundredths.
fn tell(seconds: u64, account: &Account, tasks: usize, used: u64) {
    let sent: u64 = lock(&account.sent).values().map(|sent| sent.accepted).sum();
    println!(
        "{seconds:>7}  {:>12}  {:>15}  {:>12}  {sent:>8}  {:>12}  {tasks:>5}  {:>11}  {:>7} %",
        account.now.load(Ordering::Relaxed),
        account.sessions.load(Ordering::Relaxed),
        account.failed.load(Ordering::Relaxed),
        resident() / MIB,
        descriptors(),
        used / 10
    );
}

/// Checks that every accepted message is accounted for.
fn check_messages(account: &Account) {
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
}

/// Checks that the hub has told of every session.
fn check_events(account: &Account) {
    let events = account.events.each_ref().map(|count| count.load(Ordering::Relaxed));
    println!(
        "events: {} Established, {} sessions ended, {} missed",
        events[0], events[1], events[2]
    );
    assert!(events[1] >= events[0] && events[2] == 0, "an end is not told");
    // Where a peer leaves as soon as it is Established, the hub may not have become so.
    assert!(events[1] >= account.sessions.load(Ordering::Relaxed), "a session is not told");
}

/// Counts the events of the hub.
async fn watch(mut events: Events, account: Arc<Account>) {
    while let Some(event) = events.recv().await {
        let (which, count) = match event {
            Event::State(changed) if changed.state == ConnectionState::Established => (0, 1),
            Event::SessionClosed { .. } => (1, 1),
            Event::Lagged { missed } => (2, missed),
            _ => continue,
        };
        account.events[which].fetch_add(count, Ordering::Relaxed);
    }
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
                sent.unsent += u64::try_from(closed.unsent).expect("few") + closed.not_received;
                sent.in_doubt += closed.in_doubt;
            }
        }
        sleep(Duration::from_millis(random(3_000))).await;
    }
}

// ---- parts ------------------------------------------------------------------------------------

/// Returns how many descriptors this process has open; 0 where the system does not say.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Returns the hundredths of a second for which this process, the peers included, has had a processor; 0
/// where the system does not say.
fn processor() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum()
}

/// Returns how many bytes of this process are in memory; 0 where the system does not say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or_default() * 1024
}

const MIB: usize = 1024 * 1024;
