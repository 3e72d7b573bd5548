//! Every message that a node accepts is delivered, or is counted where it was not.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use glueberry_sim::nodes::{AsyncSimulation, FaultKind, Host, ProgramError};
use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{Config, Event, Handshake, Node, StreamHandle};
use tokio::time::{sleep, timeout};

const MESSAGES: u64 = 300;

/// Numbers that the sink has got.
#[derive(Clone, Default)]
struct Got(Arc<Mutex<BTreeSet<u64>>>);

impl Got {
    fn len(&self) -> u64 {
        u64::try_from(self.0.lock().unwrap_or_else(PoisonError::into_inner).len()).unwrap()
    }

    fn insert(&self, number: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number)
    }
}

/// Takes messages, slowly now and then.
async fn sink(host: Host, got: Got) -> Result<(), ProgramError> {
    let builder = host.builder().streams(["one", "two"]).handshake(Handshake::accept_all());
    let node = builder.build_over(host.network()).await?;
    let mut messages = node.messages().ok_or("the first call gets them")?;
    let mut last = [None; 2];
    loop {
        let Ok(message) = timeout(Duration::from_secs(60), messages.recv()).await else {
            nothing_is_held(&node).await?;
            continue;
        };
        let message = message.ok_or("the node has stopped")?;
        let number = u64::from_be_bytes(*message.data.first_chunk().ok_or("too short")?);
        let last = &mut last[usize::from(message.stream() == "two")];
        if last.replace(number).is_some_and(|last| last >= number) {
            return Err(format!("{number} on {} out of order", message.stream()).into());
        }
        if !got.insert(number) {
            return Err(format!("{number} came twice").into());
        }
        if host.random().is_multiple_of(20) {
            sleep(Duration::from_millis(host.random() % 2000)).await;
        }
    }
}

/// A node without sessions whose messages were all read holds nothing of its peers.
async fn nothing_is_held(node: &Node) -> Result<(), ProgramError> {
    let state = node.debug_state().await?;
    match state.sessions == 0 && state.held_bytes > 0 {
        true => Err(format!("{} bytes are held of nobody", state.held_bytes).into()),
        false => Ok(()),
    }
}

/// What the source was told of messages that were not delivered.
#[derive(Debug, Default)]
struct Told {
    certainly: u64,
    in_doubt: u64,
}

async fn source(host: Host, got: Got) -> Result<(), ProgramError> {
    let mut config = Config::default();
    config.core.reconnect.max_backoff = Duration::from_secs(5);
    config.core.reconnect.max_attempts = None;
    let builder = host.builder().streams(["one", "two"]).config(config);
    let node = builder.handshake(Handshake::accept_all()).build_over(host.network()).await?;
    let mut events = node.events();
    let told = Arc::new(Mutex::new(Told::default()));
    let telling = told.clone();
    let (ended, end) = tokio::sync::oneshot::channel();
    let logs = host.clone();
    host.spawn(async move {
        while let Some(event) = events.recv().await {
            logs.log(event.to_string());
            if let Event::SessionClosed { closed, .. } = event {
                let mut told = telling.lock().unwrap_or_else(PoisonError::into_inner);
                told.certainly += u64::try_from(closed.unsent).unwrap() + closed.not_received;
                told.in_doubt += closed.in_doubt;
            }
        }
        ended.send(()).ok();
    });
    let peer = host.peer("sink")?;
    node.add_peer(peer.id, [peer.addr]).await?;
    drop(node.connect(peer.id).await);
    let mut stream = node.stream(peer.id, "two")?;
    let (mut number, mut accepted) = (0, 0);
    // Some say all that they have at once, and leave while it is on its way.
    let pace = [1, 100, 1000][usize::try_from(host.random() % 3)?];
    while number < MESSAGES {
        accepted += say(&host, &node, peer.id, &mut stream, &mut number).await;
        sleep(Duration::from_millis(host.random() % pace)).await;
        if host.random().is_multiple_of(50) {
            drop(node.disconnect(peer.id).await);
            sleep(Duration::from_secs(1)).await;
        }
        if timeout(Duration::from_secs(30), node.wait_established(peer.id)).await.is_err() {
            drop(node.connect(peer.id).await);
        }
    }
    drop(stream);
    node.shutdown().await;
    end.await?;
    // For as long as a slow reader may take.
    sleep(Duration::from_secs(200)).await;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = accepted - got.len();
    let fits = (told.certainly..=told.certainly + told.in_doubt).contains(&missing);
    host.log(format!("{accepted} accepted, {missing} missing, {told:?}"));
    match fits {
        true => Ok(()),
        false => Err(format!("{accepted} accepted, {missing} missing, {told:?}").into()),
    }
}

/// Says one or some messages in one of the ways that there are. Returns how many were accepted.
async fn say(
    host: &Host,
    node: &Node,
    peer: PeerId,
    stream: &mut StreamHandle,
    number: &mut u64,
) -> u64 {
    let mut next = || {
        *number += 1;
        let mut bytes = number.to_be_bytes().to_vec();
        let len = match host.random() % 8 {
            0 => host.random() % 100_000,
            1 | 2 => host.random() % 5_000,
            _ => host.random() % 100,
        };
        bytes.resize(8 + usize::try_from(len).unwrap(), 0);
        Bytes::from(bytes)
    };
    let patience = Duration::from_millis(host.random() % 3000);
    match host.random() % 5 {
        0 => u64::from(node.send(peer, "one", next()).await.is_ok()),
        1 => u64::from(node.try_send(peer, "one", next()).is_ok()),
        2 => u64::from(stream.send(next()).await.is_ok()),
        // Given up in between: what was accepted by then is gone from the batch.
        3 => {
            let mut batch: VecDeque<Bytes> = (0..8).map(|_| next()).collect();
            drop(timeout(patience, stream.send_many(&mut batch)).await);
            8 - u64::try_from(batch.len()).unwrap()
        }
        _ => {
            let mut batch: VecDeque<Bytes> = (0..8).map(|_| next()).collect();
            drop(timeout(patience, node.send_many(peer, "one", &mut batch)).await);
            8 - u64::try_from(batch.len()).unwrap()
        }
    }
}

fn counting() -> AsyncSimulation {
    AsyncSimulation::new(|setup| {
        let got = Got::default();
        let sunk = got.clone();
        setup.host("sink", move |host| sink(host, sunk.clone()));
        setup.client("source", move |host| source(host, got.clone()));
    })
    .limit(Duration::from_secs(1000))
}

#[test]
fn nothing_is_missing_that_is_not_counted() {
    let faults = [FaultKind::Partition, FaultKind::Cut, FaultKind::Slow];
    let report = counting().faults(faults).run(0..SEEDS);
    println!("{:?}", report.unwrap_or_else(|failed| panic!("{failed}")));
}

#[test]
fn nothing_is_missing_when_nothing_goes_wrong_but_the_source_leaves() {
    counting().run(0..SEEDS).unwrap_or_else(|failed| panic!("{failed}"));
}

const SEEDS: u64 = 20;
