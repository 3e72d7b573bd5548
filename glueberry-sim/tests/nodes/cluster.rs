//! Members that connect to each other, say numbers, and look whether what the node says fits together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use glueberry_sim::nodes::{AsyncSimulation, FaultKind, Host, ProgramError, Setup};
use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{ConnectionState, ErrorCode, Event, HANDSHAKE, Node, PublicKey};
use tokio::time::{Instant, interval, sleep};

const MEMBERS: [&str; 4] = ["ann", "bob", "eve", "joe"];

/// Who is Established with whom, as each says.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeSet<(String, PeerId)>>>);

impl Ledger {
    fn set(&self, who: &str, peer: PeerId, is_established: bool) {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match is_established {
            true => pairs.insert((who.to_owned(), peer)),
            false => pairs.remove(&(who.to_owned(), peer)),
        };
    }

    fn forget(&self, who: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| of != who);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A member: it has a node and says numbers to all others.
struct Member {
    host: Host,
    node: Node,
    ledger: Ledger,
    /// The last that was heard of each peer, with the life that said it.
    heard: BTreeMap<PeerId, (u64, u64)>,
    said: u64,
}

async fn member(host: Host, ledger: Ledger) -> Result<(), ProgramError> {
    ledger.forget(host.name());
    let node = host.builder().streams(["numbers"]).build_over(host.network()).await?;
    let mut events = node.events();
    let mut messages = node.messages().ok_or("the first call gets them")?;
    let mut ticks = interval(Duration::from_secs(2));
    let mut member = Member { host, node, ledger, heard: BTreeMap::new(), said: 0 };
    for name in member.others() {
        let peer = member.host.peer(&name)?;
        member.node.add_peer(peer.id, [peer.addr]).await?;
    }
    let mut connected = BTreeSet::new();
    loop {
        // Events first: what a peer says comes behind its being Connected.
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(Event::State(change)) => {
                    let is_connected = matches!(
                        change.state,
                        ConnectionState::Connected | ConnectionState::Established
                    );
                    match is_connected {
                        true => connected.insert(change.peer),
                        false => connected.remove(&change.peer),
                    };
                    member.state(change.peer, change.state).await?;
                }
                Some(_) => {}
                None => return Err("the node has stopped".into()),
            },
            message = messages.recv() => {
                let message = message.ok_or("the node has stopped")?;
                if message.stream() == HANDSHAKE {
                    if !connected.contains(&message.peer) {
                        return Err("a Hello of a peer that was not Connected".into());
                    }
                } else {
                    member.hear(message.peer, &message.data)?;
                }
            },
            _ = ticks.tick() => member.tick().await?,
        }
    }
}

impl Member {
    fn others(&self) -> Vec<String> {
        let own = self.host.name();
        self.host.names().iter().filter(|name| *name != own && *name != "watch").cloned().collect()
    }

    async fn state(&self, peer: PeerId, state: ConnectionState) -> Result<(), ProgramError> {
        self.ledger.set(self.host.name(), peer, state == ConnectionState::Established);
        if state != ConnectionState::Connected {
            return Ok(());
        }
        // Whoever is told that a peer is Connected finds a session, unless that is over.
        let early = self.node.try_send(peer, "numbers", "too early").expect_err("too early");
        let said = self.node.send(peer, HANDSHAKE, "hello").await;
        if self.node.connection_state(peer) == ConnectionState::Connected {
            let is_refused = early.code() != ErrorCode::HandshakeNotComplete;
            let refusal = said.err().or_else(|| is_refused.then_some(early));
            if let Some(error) = refusal {
                return Err(format!("refused right after Connected: {error:#}").into());
            }
        }
        let (node, host) = (self.node.clone(), self.host.clone());
        self.host.spawn(async move {
            let key = PublicKey::try_from(&peer).expect("a key of Ed25519");
            if node.complete_handshake(peer, key, &["numbers"]).await.is_ok() {
                let state = node.connection_state(peer);
                host.log(format!("complete, {state:?}"));
                assert!(
                    !matches!(state, ConnectionState::Connected | ConnectionState::Connecting),
                    "the handshake is complete, and the peer is {state:?}",
                );
            }
        });
        Ok(())
    }

    fn hear(&mut self, peer: PeerId, data: &[u8]) -> Result<(), ProgramError> {
        let text = std::str::from_utf8(data)?;
        let (life, number) = text.split_once(' ').ok_or("no two numbers")?;
        let heard = (life.parse()?, number.parse()?);
        if let Some(before) = self.heard.insert(peer, heard)
            && before >= heard
        {
            return Err(format!("{heard:?} behind {before:?}").into());
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), ProgramError> {
        for name in self.others() {
            let peer = self.host.peer(&name)?;
            match self.node.connection_state(peer.id) {
                ConnectionState::Established => {
                    self.said += 1;
                    let text = format!("{} {}", self.host.restarts(), self.said);
                    // It may be over by now.
                    self.node.try_send(peer.id, "numbers", text).ok();
                }
                ConnectionState::Disconnected => {
                    let node = self.node.clone();
                    self.host.spawn(async move { drop(node.connect(peer.id).await) });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Waits until all are Established with all, and stay so for a while.
async fn watch(ledger: Ledger, trouble: Duration) -> Result<(), ProgramError> {
    sleep(trouble).await;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(500)).await;
        if ledger.len() < MEMBERS.len() * (MEMBERS.len() - 1) {
            since = Instant::now();
        }
    }
    Ok(())
}

fn setup(setup: &mut Setup, trouble: Duration) {
    let ledger = Ledger::default();
    for name in MEMBERS {
        let ledger = ledger.clone();
        setup.host(name, move |host| member(host, ledger.clone()));
    }
    setup.client("watch", move |_| watch(ledger.clone(), trouble));
}

fn cluster(trouble: u64) -> AsyncSimulation {
    let trouble = Duration::from_secs(trouble);
    AsyncSimulation::new(move |it| setup(it, trouble)).trouble(trouble)
}

#[test]
fn members_agree_when_nothing_goes_wrong() {
    let report = cluster(1).run(0..SEEDS).unwrap_or_else(|failed| panic!("{failed}"));
    assert_eq!(report.faults, 0);
}

#[test]
fn members_come_back_from_every_fault() {
    let faults = [FaultKind::Partition, FaultKind::Cut, FaultKind::Slow, FaultKind::Kill];
    let report = cluster(60).faults(faults).run(0..SEEDS);
    let report = report.unwrap_or_else(|failed| panic!("{failed}"));
    println!("{report:?}");
    assert!(report.faults > 5 * SEEDS, "{report:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let faults = [FaultKind::Partition, FaultKind::Cut, FaultKind::Slow, FaultKind::Kill];
    let simulation = cluster(20).faults(faults);
    simulation.repeats(0..2).unwrap_or_else(|failed| panic!("{failed}"));
    let trace =
        |seed| simulation.run(seed..seed + 1).unwrap_or_else(|failed| panic!("{failed}")).trace;
    assert_ne!(trace(0), trace(1));
}

/// Seeds of each test.
const SEEDS: u64 = 10;
