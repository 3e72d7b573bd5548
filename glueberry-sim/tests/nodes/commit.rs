//! A bank in two-phase commit: a coordinator asks two branches, decides, and is killed where it hurts.
//!
//! What is promised: both branches do the same with a transfer, whoever is killed when. A coordinator that
//! tells what it has decided before that is stored breaks the promise, and is found.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use glueberry_sim::nodes::{AsyncSimulation, Cause, FaultKind, Host, ProgramError};
use glueberry_tokio::{
    ConnectionState, Handshake, IncomingRequests, Node, RequestError, RequestLimits, Requester,
};
use tokio::time::sleep;

const BRANCHES: [&str; 2] = ["north", "south"];
const TRANSFERS: u32 = 3;

/// What branches have done with transfers, as an observer who is everywhere sees it.
#[derive(Clone, Default)]
struct Observed(Arc<Mutex<BTreeMap<(String, String), String>>>);

impl Observed {
    /// A branch has done that with a transfer.
    fn did(&self, branch: &str, transfer: &str, outcome: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((transfer.to_owned(), branch.to_owned()), outcome.to_owned());
    }

    /// Whatever two branches have done with a transfer is the same.
    fn check(&self) -> Result<(), String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((transfer, branch), outcome) in &*all {
            for other in BRANCHES {
                let done = all.get(&(transfer.clone(), other.to_owned()));
                if done.is_some_and(|done| done != outcome) {
                    return Err(format!(
                        "transfer {transfer}: {outcome} at {branch}, not at {other}"
                    ));
                }
            }
        }
        Ok(())
    }
}

async fn node(host: &Host) -> Result<(Node, Requester, IncomingRequests), ProgramError> {
    let builder = host.builder().streams(["bank"]).handshake(Handshake::accept_all());
    let node = builder.build_over(host.network()).await?;
    let (requester, incoming) = node.requests("bank", RequestLimits::default())?;
    Ok((node, requester, incoming))
}

/// Asks a host something, once.
async fn ask(
    host: &Host,
    node: &Node,
    requester: &Requester,
    of: &str,
    what: String,
) -> Result<String, ProgramError> {
    let peer = host.peer(of)?;
    if node.connection_state(peer.id) != ConnectionState::Established {
        node.add_peer(peer.id, [peer.addr]).await?;
        // It may be under way already; what counts is the outcome.
        drop(node.connect(peer.id).await);
        node.wait_established(peer.id).await?;
    }
    let answer = requester.request(peer.id, what, Duration::from_secs(3)).await;
    let answer = answer.map_err(|error: RequestError| error.to_string())?;
    Ok(String::from_utf8(answer.to_vec())?)
}

/// Votes, and does what the coordinator says.
async fn branch(host: Host, observed: Observed) -> Result<(), ProgramError> {
    let (_node, _requester, mut incoming) = node(&host).await?;
    let disk = host.disk();
    while let Some(request) = incoming.recv().await {
        let text = String::from_utf8(request.data.to_vec())?;
        let words: Vec<&str> = text.split(' ').collect();
        let answer = match words[..] {
            ["prepare", _] if host.random().is_multiple_of(4) => "no",
            ["prepare", _] => "yes",
            ["decide", transfer, outcome] => {
                if disk.read(transfer).await.is_none() {
                    disk.write(transfer, outcome).await;
                    disk.sync().await;
                    observed.did(host.name(), transfer, outcome);
                }
                "done"
            }
            _ => return Err(format!("unknown request {text}").into()),
        };
        request.respond(answer).await.ok();
    }
    Err("the node has stopped".into())
}

/// Decides each transfer once, and tells both branches until they have done it.
async fn coordinator(host: Host, is_stored_first: bool) -> Result<(), ProgramError> {
    let (node, requester, mut incoming) = node(&host).await?;
    let disk = host.disk();
    while let Some(request) = incoming.recv().await {
        let transfer = String::from_utf8(request.data.to_vec())?;
        let stored = disk.read(&transfer).await;
        let outcome = match &stored {
            Some(stored) => String::from_utf8(stored.clone())?,
            None => {
                let mut is_commit = true;
                for branch in BRANCHES {
                    let vote = format!("prepare {transfer}");
                    let vote = ask(&host, &node, &requester, branch, vote).await;
                    is_commit &= vote.is_ok_and(|vote| vote == "yes");
                }
                if is_commit { "commit".to_owned() } else { "abort".to_owned() }
            }
        };
        if is_stored_first && stored.is_none() {
            disk.write(&transfer, outcome.clone()).await;
            disk.sync().await;
        }
        for branch in BRANCHES {
            host.point("telling").await;
            let decision = format!("decide {transfer} {outcome}");
            while ask(&host, &node, &requester, branch, decision.clone()).await.is_err() {
                sleep(Duration::from_secs(1)).await;
            }
        }
        disk.write(&transfer, outcome.clone()).await;
        disk.sync().await;
        request.respond(outcome).await.ok();
    }
    Err("the node has stopped".into())
}

/// Wants some transfers done.
async fn teller(host: Host) -> Result<(), ProgramError> {
    let (node, requester, _incoming) = node(&host).await?;
    for transfer in 0..TRANSFERS {
        while ask(&host, &node, &requester, "coordinator", transfer.to_string()).await.is_err() {
            sleep(Duration::from_secs(2)).await;
        }
    }
    Ok(())
}

fn bank(is_stored_first: bool) -> AsyncSimulation {
    AsyncSimulation::new(move |setup| {
        let observed = Observed::default();
        setup.host("coordinator", move |host| coordinator(host, is_stored_first));
        for name in BRANCHES {
            let observed = observed.clone();
            setup.host(name, move |host| branch(host, observed.clone()));
        }
        setup.client("teller", teller);
        setup.always(move || observed.check());
    })
    .faults([FaultKind::Partition, FaultKind::Cut, FaultKind::Kill])
}

#[test]
fn a_decision_that_is_stored_first_holds() {
    bank(true).run(0..20).unwrap_or_else(|failed| panic!("{failed}"));
}

#[test]
fn a_decision_that_is_told_before_it_is_stored_is_found() {
    let failed = bank(false).run(0..200).expect_err("no seed finds it");
    let Cause::Broken(what) = &failed.cause else { panic!("{failed}") };
    assert!(what.starts_with("transfer "), "{failed}");
    println!("{failed}");
}
