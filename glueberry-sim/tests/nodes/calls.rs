//! Calls of all kinds at one time, in a network in which everything goes wrong: each ends, and so does
//! the node.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use glueberry_sim::nodes::{AsyncSimulation, FaultKind, Host, ProgramError};
use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{
    Config, ErrorCode, Handshake, Node, ReconnectPolicy, RequestLimits, Requester,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const NAMES: [&str; 3] = ["one", "two", "three"];
/// For how long calls are made.
const BUSY: Duration = Duration::from_secs(60);
/// The longest that a call may take which does not wait for a peer's application.
const LONGEST: Duration = Duration::from_secs(120);

async fn caller(host: Host) -> Result<(), ProgramError> {
    let mut config = Config::default();
    config.message_buffer = 8;
    config.core.handshake_timeout = Duration::from_secs(10);
    let builder = host.builder().config(config).streams(["bulk", "talk", "ask"]);
    let handshake = match host.random() % 3 {
        0 => Handshake::accept_all(),
        1 => Handshake::on_request(),
        _ => {
            let draws = host.clone();
            Handshake::accept_if(move |_| match draws.random() % 4 {
                0 => Err("not now".to_owned()),
                _ => Ok(()),
            })
        }
    };
    let node = builder.handshake(handshake).build_over(host.network()).await?;
    let mut messages = node.messages().ok_or("the first call gets them")?;
    let (requester, mut incoming) = node.requests("ask", RequestLimits::default())?;
    let slow = host.clone();
    host.spawn(async move {
        while messages.recv().await.is_some() {
            sleep(Duration::from_millis(slow.random() % 200)).await;
        }
    });
    host.spawn(async move {
        while let Some(request) = incoming.recv().await {
            let data = request.data.clone();
            request.respond(data).await.ok();
        }
    });
    let (tell, mut ended) = mpsc::channel(4);
    for _ in 0..4 {
        let (host, node, requester, tell) =
            (host.clone(), node.clone(), requester.clone(), tell.clone());
        host.clone().spawn(async move {
            let result = calls(&host, &node, &requester).await;
            tell.send(result.map_err(|error| error.to_string())).await.ok();
        });
    }
    drop((tell, requester));
    while let Some(result) = ended.recv().await {
        result?;
    }
    let mut events = node.events();
    if timeout(LONGEST, node.shutdown()).await.is_err() {
        return Err("the node does not shut down".into());
    }
    let over = async { while events.recv().await.is_some() {} };
    if timeout(LONGEST, over).await.is_err() {
        return Err("events go on behind the end".into());
    }
    let error = node.connect(host.peer("one")?.id).await.expect_err("it has stopped");
    let is_itself = host.name() == "one";
    match error.code() {
        ErrorCode::NodeStopped => Ok(()),
        _ if is_itself => Ok(()),
        _ => Err(format!("a stopped node says {error:#}").into()),
    }
}

async fn calls(host: &Host, node: &Node, requester: &Requester) -> Result<(), ProgramError> {
    let began = Instant::now();
    while began.elapsed() < BUSY {
        let own = host.name();
        let others: Vec<&str> = NAMES.into_iter().filter(|name| *name != own).collect();
        let name = others[usize::try_from(host.random() % 2)?];
        let peer = host.peer(name)?;
        let kind = host.random() % 24;
        let call = call(host, node, requester, kind, peer.id, peer.addr);
        if timeout(LONGEST, call).await.is_err() {
            return Err(format!("call {kind} to {name} does not end").into());
        }
        sleep(Duration::from_millis(host.random() % 700)).await;
    }
    Ok(())
}

/// Makes a call of some kind. What comes of it depends on what goes wrong; that it ends does not.
async fn call(
    host: &Host,
    node: &Node,
    requester: &Requester,
    kind: u64,
    peer: PeerId,
    addr: glueberry_tokio::Multiaddr,
) {
    let len = usize::try_from(host.random() % 30_000).unwrap();
    let data = Bytes::from(vec![7; len]);
    let patience = Duration::from_millis(host.random() % 5_000);
    match kind {
        0..=2 => drop(node.add_peer(peer, [addr]).await),
        3..=6 => {
            node.add_peer(peer, [addr]).await.ok();
            node.connect(peer).await.ok();
        }
        7 => drop(node.disconnect(peer).await),
        8 => drop(node.cancel_reconnection(peer).await),
        9 => drop(node.send(peer, "bulk", data).await),
        10 => drop(timeout(patience, node.send(peer, "talk", data)).await),
        11 => {
            let mut batch: VecDeque<Bytes> = (0..20).map(|_| data.clone()).collect();
            drop(timeout(patience, node.send_many(peer, "bulk", &mut batch)).await);
        }
        12 => {
            if let Ok(mut stream) = node.stream(peer, "talk") {
                drop(timeout(patience, stream.send(data)).await);
                drop(timeout(patience, stream.recv()).await);
            }
        }
        13 => drop(node.broadcast("bulk", data)),
        14 => drop(timeout(patience, node.wait_established(peer)).await),
        15 => drop(node.greet(peer).await),
        16 => drop(node.reject_handshake(peer, "a whim")),
        17 => {
            let until = host.random().is_multiple_of(2).then(|| host.wall_time() + patience);
            node.blacklist_peer(peer, until).await.ok();
            sleep(patience).await;
            node.unblacklist_peer(peer).await.ok();
        }
        18 => drop(node.remove_peer(peer).await),
        19 => drop(node.protect(peer, host.random().is_multiple_of(2)).await),
        20 => {
            let policy = match host.random() % 3 {
                0 => Some(ReconnectPolicy::never()),
                1 => Some(ReconnectPolicy::default()),
                _ => None,
            };
            drop(node.set_reconnect_policy(peer, policy).await);
        }
        21 => {
            assert!(!node.health().await.checks.is_empty());
            node.debug_state().await.ok();
            node.peers().await.ok();
        }
        22 => drop(requester.request(peer, data, patience).await),
        _ => drop(node.autoconnect().await),
    }
}

#[test]
fn every_call_ends_whatever_goes_wrong() {
    let faults = [FaultKind::Partition, FaultKind::Cut, FaultKind::Slow];
    let simulation = AsyncSimulation::new(|setup| {
        for name in NAMES {
            setup.client(name, caller);
        }
    })
    .faults(faults)
    .limit(Duration::from_secs(600));
    let report = simulation.run(0..SEEDS).unwrap_or_else(|failed| panic!("{failed}"));
    println!("{report:?}");
}

const SEEDS: u64 = 10;
