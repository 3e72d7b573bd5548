//! Requests, and answers to them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use glueberry_tokio::{
    Config, Handshake, IncomingRequests, Node, RequestError, RequestLimits, Requester,
};
use tokio::time::timeout;

use super::each;
use crate::cancel::tight;
use crate::support::{any_port, eventually, keypair, quick, run};

const LONG: Duration = Duration::from_secs(60);
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const UNANSWERED: u8 = 5;
const CANCEL: u8 = 6;

async fn node(number: u8, config: Config) -> Node {
    Node::builder(keypair(number))
        .config(config)
        .streams(["rpc"])
        .listen(any_port())
        .handshake(Handshake::accept_all())
        .build()
        .await
        .unwrap()
}

async fn meet(alice: &Node, bob: &Node) {
    alice.dial(bob.dial_addrs().remove(0)).await.unwrap();
    timeout(LONG, alice.wait_established(bob.peer_id())).await.unwrap().unwrap();
    timeout(LONG, bob.wait_established(alice.peer_id())).await.unwrap().unwrap();
}

/// A frame of which the rest is long, so that few fill a queue.
fn frame(kind: u8, id: u64) -> Vec<u8> {
    let patience: &[u8] = if kind == REQUEST { &[255; 4] } else { &[] };
    [&[kind][..], &id.to_be_bytes(), patience, &[0; 8 * 1024]].concat()
}

fn parsed(frame: &[u8]) -> (u8, u64) {
    (frame[0], u64::from_be_bytes(frame[1..9].try_into().unwrap()))
}

/// A future that answers is pending only while the queue is full.
#[test]
fn a_request_whose_answer_is_dropped_is_unanswered_though_the_queue_is_full() {
    run(async {
        let (alice, bob) = (node(1, tight()).await, node(2, tight()).await);
        let mut limits = RequestLimits::default();
        limits.max_served = 1000;
        let (_asks, mut incoming) = bob.requests("rpc", limits).unwrap();
        let mut answers = alice.messages().unwrap();
        meet(&alice, &bob).await;
        let (mut responded, mut dropped) = (BTreeSet::new(), BTreeSet::new());
        // Until nothing more fits; then as many more.
        for id in 0.. {
            alice.send(bob.peer_id(), "rpc", frame(REQUEST, id)).await.unwrap();
            let request = timeout(LONG, incoming.recv()).await.unwrap().unwrap();
            match timeout(STUCK, request.respond(vec![0; 8 * 1024])).await {
                Ok(result) => {
                    result.unwrap();
                    responded.insert(id);
                }
                Err(_) => {
                    dropped.insert(id);
                }
            }
            if dropped.len() == 8 {
                break;
            }
        }
        assert!(!responded.is_empty());
        let mut told = BTreeSet::new();
        while told.len() < dropped.len() {
            let message = timeout(LONG, answers.recv()).await.expect("it is not told").unwrap();
            match parsed(&message.data) {
                (RESPONSE, id) => assert!(responded.remove(&id), "{id}"),
                (UNANSWERED, id) => assert!(told.insert(id), "{id}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((told, responded.len()), (dropped, 0));
    });
}

#[test]
fn a_request_that_is_dropped_is_cancelled_though_the_queue_is_full() {
    run(async {
        let (alice, bob) = (node(1, tight()).await, node(2, tight()).await);
        let (requester, _incoming) = alice.requests("rpc", RequestLimits::default()).unwrap();
        let mut asked = bob.messages().unwrap();
        meet(&alice, &bob).await;
        let ask = || requester.request(bob.peer_id(), vec![0; 8 * 1024], LONG * 60).boxed();
        let mut asking = Vec::new();
        for _ in 0..60 {
            let mut one = ask();
            assert!(timeout(STUCK / 4, &mut one).await.is_err());
            asking.push(one);
        }
        assert!(alice.try_send(bob.peer_id(), "rpc", "x").is_err(), "the queue has room");
        drop(asking);
        // Those that were sent are cancelled, each once; the others never come.
        let (mut open, mut cancelled) = (BTreeSet::new(), 0);
        while let Ok(message) = timeout(STUCK * 20, asked.recv()).await {
            match parsed(&message.unwrap().data) {
                (REQUEST, id) => assert!(open.insert(id), "{id}"),
                (CANCEL, id) => {
                    assert!(open.remove(&id), "{id}");
                    cancelled += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(cancelled > 0);
        assert!(open.is_empty(), "{} were not cancelled", open.len());
    });
}

/// Long enough for whatever has room.
const STUCK: Duration = Duration::from_millis(100);

/// Both with few places, which are missed at once if they are not given back.
struct Pair {
    alice: Node,
    bob: Node,
    requester: Requester,
    incoming: IncomingRequests,
    _rest: (IncomingRequests, Requester),
}

async fn pair() -> Pair {
    let mut few = RequestLimits::default();
    (few.max_in_flight, few.max_served) = (2, 2);
    let (alice, bob) = (node(1, quick()).await, node(2, quick()).await);
    let (requester, none) = alice.requests("rpc", few).unwrap();
    let (asks, incoming) = bob.requests("rpc", few).unwrap();
    meet(&alice, &bob).await;
    Pair { alice, bob, requester, incoming, _rest: (none, asks) }
}

/// What the application answers next; those that are cancelled are left out.
async fn next(incoming: &mut IncomingRequests) -> glueberry_tokio::Request {
    timeout(LONG, incoming.recv()).await.unwrap().unwrap()
}

#[test]
fn a_request_gives_its_place_back_wherever_it_is_dropped() {
    run(async {
        let Pair { alice: _alice, bob, requester, mut incoming, _rest } = pair().await;
        let to = bob.peer_id();
        let served = tokio::spawn(async move {
            let mut count = 0;
            while let Some(request) = incoming.recv().await {
                let data = request.data.clone();
                count += u32::from(request.respond(data).await.is_ok());
            }
            count
        });
        each("request", async |polls| {
            let dropped = polls.of(requester.request(to, "a", LONG)).await;
            // As many as there are places, thrice.
            for _ in 0..3 {
                let (one, two) = tokio::join!(
                    requester.request(to, "one", LONG),
                    requester.request(to, "two", LONG),
                );
                // What was cancelled may still be in the other's hand, which says that it is busy.
                for (answer, text) in [(one, "one"), (two, "two")] {
                    match answer {
                        Ok(answer) => assert_eq!(answer, text),
                        Err(error) => assert!(matches!(error, RequestError::Busy), "{error}"),
                    }
                }
            }
            dropped.is_some()
        })
        .await;
        assert_eq!(requester.request(to, "last", LONG).await.unwrap(), "last");
        bob.shutdown().await;
        assert!(served.await.unwrap() >= 2);
    });
}

#[test]
fn what_receives_and_answers_requests_loses_none() {
    run(async {
        let Pair { alice, bob, requester, mut incoming, _rest } = pair().await;
        let to = bob.peer_id();
        let ask = |text: &'static str| {
            let requester = requester.clone();
            tokio::spawn(async move { requester.request(to, text, LONG).await })
        };
        for is_stream in [false, true] {
            let asked = ask("received");
            let mut request = None;
            each("recv", async |polls| {
                let received = match is_stream {
                    false => polls.of(incoming.recv()).await,
                    true => polls.of(incoming.next()).await,
                };
                request = received.flatten();
                request.is_some()
            })
            .await;
            request.unwrap().respond("done").await.unwrap();
            assert_eq!(timeout(LONG, asked).await.unwrap().unwrap().unwrap(), "done");
        }
        // An answer that is dropped is none, whichever it was; one that is ready has been sent.
        for fails in [false, true] {
            each("answer", async |polls| {
                let asked = ask("answered");
                let request = next(&mut incoming).await;
                let done = match fails {
                    false => polls.of(request.respond("done")).await,
                    true => polls.of(request.fail("why")).await,
                };
                let answer = timeout(LONG, asked).await.unwrap().unwrap();
                match (&done, answer) {
                    (None, Err(RequestError::Unanswered)) => {}
                    (Some(Ok(())), Ok(answer)) if !fails => assert_eq!(answer, "done"),
                    (Some(Ok(())), Err(RequestError::Failed(text))) if fails => {
                        assert_eq!(text, "why");
                    }
                    other => panic!("{other:?}"),
                }
                done.is_some()
            })
            .await;
        }
        // Waiting for what the peer does not want any more takes nothing from the request.
        let asked = ask("cancelled");
        let mut request = next(&mut incoming).await;
        for polls in 0..4 {
            assert!(super::Polls(polls).of(request.cancelled()).await.is_none());
        }
        asked.abort();
        timeout(LONG, request.cancelled()).await.unwrap();
        drop(request);
        let asked = ask("last");
        next(&mut incoming).await.respond("done").await.unwrap();
        assert_eq!(timeout(LONG, asked).await.unwrap().unwrap().unwrap(), "done");
        let is_over = || bob.peer_statistics(alice.peer_id()).is_some();
        eventually("it is counted", is_over).await;
    });
}
