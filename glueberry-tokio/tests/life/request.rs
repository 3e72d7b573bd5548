//! Requests and responses over real connections.

use std::future::Future;
use std::time::Duration;

use futures_util::future::{FutureExt, join_all};
use glueberry_tokio::{
    Error, ErrorCode, Handshake, IncomingRequests, Node, RequestError, RequestLimits, Requester,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{any_port, eventually, keypair, quick, run};

const LONG: Duration = Duration::from_secs(60);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(100), future).await.expect("took too long")
}

async fn node(number: u8) -> Node {
    Node::builder(keypair(number))
        .config(quick())
        .streams(["rpc", "chat"])
        .listen(any_port())
        .handshake(Handshake::accept_all())
        .build()
        .await
        .unwrap()
}

/// Alice asks, Bob answers.
struct Pair {
    alice: Node,
    bob: Node,
    requester: Requester,
    incoming: IncomingRequests,
    /// Bob's, so that the stream stays taken over.
    _asks: Requester,
}

async fn pair(asks: RequestLimits, answers: RequestLimits) -> Pair {
    let (alice, bob) = (node(1).await, node(2).await);
    let (requester, _) = alice.requests("rpc", asks).unwrap();
    let (_asks, incoming) = bob.requests("rpc", answers).unwrap();
    alice.dial(bob.dial_addrs().remove(0)).await.unwrap();
    soon(alice.wait_established(bob.peer_id())).await.unwrap();
    soon(bob.wait_established(alice.peer_id())).await.unwrap();
    Pair { alice, bob, requester, incoming, _asks }
}

fn echo(mut incoming: IncomingRequests) {
    tokio::spawn(async move {
        while let Some(request) = incoming.recv().await {
            let data = request.data.clone();
            request.respond(data).await.ok();
        }
    });
}

#[test]
fn many_at_once_get_each_its_own_response() {
    run(async {
        let Pair { alice: _alice, bob, requester, incoming, _asks } =
            pair(Default::default(), Default::default()).await;
        // The answers come in another order than the questions.
        tokio::spawn(async move {
            let mut incoming = incoming;
            let mut kept = Vec::new();
            while let Some(request) = incoming.recv().await {
                kept.push(request);
                if kept.len() == 10 {
                    for request in kept.drain(..).rev() {
                        let data = [&request.data[..], b"!"].concat();
                        request.respond(data).await.unwrap();
                    }
                }
            }
        });
        let ask = |number: u32| {
            let (requester, bob) = (requester.clone(), bob.peer_id());
            async move { requester.request(bob, number.to_string(), LONG).await.unwrap() }
        };
        // More than may be in flight: the rest wait for a place.
        let responses = soon(join_all((0..500).map(ask))).await;
        for (number, response) in responses.iter().enumerate() {
            assert_eq!(*response, format!("{number}!"));
        }
        assert_eq!(requester.ignored(), 0);
    });
}

#[test]
fn large_ones_and_both_directions() {
    run(async {
        let (alice, bob) = (node(1).await, node(2).await);
        // All may wait for the application at one time.
        let mut limits = RequestLimits::default();
        limits.max_waiting_bytes = 32 * 1024 * 1024;
        let (ask_bob, at_alice) = alice.requests("rpc", limits).unwrap();
        let (ask_alice, at_bob) = bob.requests("rpc", limits).unwrap();
        alice.dial(bob.dial_addrs().remove(0)).await.unwrap();
        soon(alice.wait_established(bob.peer_id())).await.unwrap();
        soon(bob.wait_established(alice.peer_id())).await.unwrap();
        echo(at_alice);
        echo(at_bob);
        let large = vec![7; 3_000_000];
        let there = (0..8).map(|_| ask_bob.request(bob.peer_id(), large.clone(), LONG));
        let back = (0..8).map(|_| ask_alice.request(alice.peer_id(), large.clone(), LONG));
        let (there, back) = tokio::join!(join_all(there), join_all(back));
        for response in there.into_iter().chain(back) {
            assert!(response.unwrap() == large);
        }
    });
}

#[test]
fn a_response_that_does_not_come_in_time_is_an_error_and_the_peer_knows() {
    run(async {
        let Pair { alice: _alice, bob, requester, mut incoming, _asks } =
            pair(Default::default(), Default::default()).await;
        let asked = requester.request(bob.peer_id(), "slow", Duration::from_millis(300));
        let served = async {
            let mut request = incoming.recv().await.unwrap();
            assert!(request.deadline().is_some());
            soon(request.cancelled()).await;
            request
        };
        let (asked, request) = tokio::join!(asked, served);
        assert!(matches!(asked, Err(RequestError::TimedOut)), "{asked:?}");
        let error = request.respond("too late").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Cancelled);
    });
}

#[test]
fn dropping_the_future_cancels_at_the_peer() {
    run(async {
        let Pair { alice: _alice, bob, requester, mut incoming, _asks } =
            pair(Default::default(), Default::default()).await;
        let to = bob.peer_id();
        let asking = tokio::spawn({
            let requester = requester.clone();
            async move { requester.request(to, "never mind", LONG).await }
        });
        let mut request = soon(incoming.recv()).await.unwrap();
        assert!(!request.is_cancelled());
        asking.abort();
        soon(request.cancelled()).await;
        assert!(request.is_cancelled());
        drop(request);
        echo(incoming);
        assert_eq!(requester.request(to, "next", LONG).await.unwrap(), "next");
    });
}

#[test]
fn what_the_application_does_not_answer_is_an_error() {
    run(async {
        let Pair { alice: _alice, bob, requester, mut incoming, _asks } =
            pair(Default::default(), Default::default()).await;
        let to = bob.peer_id();
        let serve = async {
            drop(incoming.recv().await.unwrap());
            incoming.recv().await.unwrap().fail("no such thing").await.unwrap();
            let waiting = incoming;
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(waiting);
        };
        let ask = async {
            let dropped = requester.request(to, "a", LONG).await.unwrap_err();
            assert!(matches!(dropped, RequestError::Unanswered));
            let failed = requester.request(to, "b", LONG).await.unwrap_err();
            assert_eq!(failed.to_string(), "the peer's application failed: no such thing");
            let nobody = requester.request(to, "c", LONG).await.unwrap_err();
            assert!(matches!(nobody, RequestError::Unanswered), "{nobody}");
        };
        soon(async { tokio::join!(serve, ask) }).await;
        // Nor does it take requests any more.
        let error = requester.request(to, "d", LONG).await.unwrap_err();
        assert!(matches!(error, RequestError::Unanswered));
    });
}

#[test]
fn the_end_of_the_session_ends_what_is_under_way() {
    run(async {
        let Pair { alice, bob, requester, mut incoming, _asks } =
            pair(Default::default(), Default::default()).await;
        let to = bob.peer_id();
        let asking = tokio::spawn(async move { requester.request(to, "hello", LONG).await });
        let mut request = soon(incoming.recv()).await.unwrap();
        bob.disconnect(alice.peer_id()).await.unwrap();
        let error = soon(asking).await.unwrap().unwrap_err();
        assert!(matches!(error, RequestError::SessionEnded), "{error}");
        assert!(!error.is_untouched());
        soon(request.cancelled()).await;
    });
}

#[test]
fn too_many_are_answered_as_busy() {
    run(async {
        let mut few = RequestLimits::default();
        few.max_served = 2;
        let Pair { alice: _alice, bob, requester, mut incoming, _asks } =
            pair(Default::default(), few).await;
        let to = bob.peer_id();
        let ask = |text: &'static str| {
            let requester = requester.clone();
            tokio::spawn(async move { requester.request(to, text, LONG).await })
        };
        let (first, second) = (ask("1"), ask("2"));
        let one = soon(incoming.recv()).await.unwrap();
        let two = soon(incoming.recv()).await.unwrap();
        let error = soon(ask("3")).await.unwrap().unwrap_err();
        assert!(matches!(error, RequestError::Busy) && error.is_untouched(), "{error}");
        one.respond("done").await.unwrap();
        two.respond("done").await.unwrap();
        assert_eq!(soon(first).await.unwrap().unwrap(), "done");
        assert_eq!(soon(second).await.unwrap().unwrap(), "done");
    });
}

#[test]
fn what_cannot_be_sent_says_so() {
    run(async {
        let Pair { alice, bob, requester, incoming, _asks } =
            pair(Default::default(), Default::default()).await;
        let code = |result: Result<_, RequestError>| match result {
            Err(RequestError::NotSent(error)) => Error::code(&error),
            other => panic!("{other:?}"),
        };
        let stranger = keypair(9).public().to_peer_id();
        assert_eq!(code(requester.request(stranger, "a", LONG).await), ErrorCode::NotConnected);
        let huge = vec![0; 11 * 1024 * 1024];
        let result = requester.request(bob.peer_id(), huge, LONG).await;
        assert_eq!(code(result), ErrorCode::MessageTooLarge);
        let again = alice.requests("rpc", RequestLimits::default()).unwrap_err();
        assert_eq!(again.code(), ErrorCode::StreamTaken);
        let mut none = RequestLimits::default();
        none.max_in_flight = 0;
        let error = alice.requests("chat", none).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfig);
        // The last handle frees the stream.
        drop(requester);
        let (requester, _) = alice.requests("rpc", RequestLimits::default()).unwrap();
        echo(incoming);
        assert_eq!(requester.request(bob.peer_id(), "a", LONG).await.unwrap(), "a");
        alice.shutdown().await;
        let result = requester.request(bob.peer_id(), "b", LONG).await;
        assert_eq!(code(result), ErrorCode::NodeStopped);
    });
}

#[test]
fn frames_that_mean_nothing_are_ignored_and_counted() {
    run(async {
        let Pair { alice, bob, requester, incoming, _asks } =
            pair(Default::default(), Default::default()).await;
        echo(incoming);
        for message in [&b""[..], b"short", &[200; 30], &[2, 0, 0, 0, 0, 0, 0, 0, 9, 1], &[1; 12]] {
            bob.send(alice.peer_id(), "rpc", message.to_vec()).await.unwrap();
        }
        assert_eq!(requester.request(bob.peer_id(), "a", LONG).await.unwrap(), "a");
        assert_eq!(requester.ignored(), 5);
    });
}

/// A response as it is on the wire.
fn response(id: u64, body: &[u8]) -> Vec<u8> {
    [&[2][..], &id.to_be_bytes(), body].concat()
}

#[test]
fn no_peer_answers_or_ends_the_requests_to_another() {
    run(async {
        let Pair { alice, bob, requester, mut incoming, _asks } =
            pair(Default::default(), Default::default()).await;
        let mallory = node(3).await;
        let mut forged = mallory.stream(alice.peer_id(), "rpc").unwrap();
        alice.dial(mallory.dial_addrs().remove(0)).await.unwrap();
        soon(mallory.wait_established(alice.peer_id())).await.unwrap();
        soon(alice.wait_established(mallory.peer_id())).await.unwrap();
        let ask = |peer| {
            let requester = requester.clone();
            tokio::spawn(async move { requester.request(peer, "a", LONG).await })
        };
        let to_mallory = ask(mallory.peer_id());
        let frame = soon(forged.recv()).await.unwrap();
        let to_bob = ask(bob.peer_id());
        let served = soon(incoming.recv()).await.unwrap();
        // The ids of one requester follow each other.
        let own = u64::from_be_bytes(frame[1..9].try_into().unwrap());
        for off in 1..=8 {
            forged.send(response(own.wrapping_add(off), b"forged")).await.unwrap();
        }
        forged.send(response(own, b"real")).await.unwrap();
        assert_eq!(soon(to_mallory).await.unwrap().unwrap(), "real");
        served.respond("real").await.unwrap();
        assert_eq!(soon(to_bob).await.unwrap().unwrap(), "real");
        assert_eq!(requester.ignored(), 8);
    });
}

/// The caller is on another runtime than its node, which is dropped.
#[test]
fn requests_end_with_the_runtime_of_their_node() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Pair { alice, bob, requester, mut incoming, _asks } =
        runtime.block_on(pair(Default::default(), Default::default()));
    run(async move {
        let asking = {
            let (requester, bob) = (requester.clone(), bob.peer_id());
            tokio::spawn(async move { requester.request(bob, "a", LONG).await })
        };
        let request = soon(incoming.recv()).await.unwrap();
        tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
        let error = soon(asking).await.unwrap().unwrap_err();
        // It may have been carried out.
        assert!(matches!(error, RequestError::SessionEnded), "{error}");
        assert!(soon(incoming.recv()).await.is_none());
        assert!(request.is_cancelled());
        let error = requester.request(bob.peer_id(), "b", LONG).await.unwrap_err();
        assert!(error.is_untouched(), "{error}");
        drop((alice, request));
    });
}

#[test]
fn what_is_not_awaited_takes_no_room_from_what_is() {
    run(async {
        let mut little = RequestLimits::default();
        little.max_waiting_bytes = 1000;
        let Pair { alice, bob, requester, mut incoming, _asks } =
            pair(Default::default(), little).await;
        let carol = node(3).await;
        let (of_carol, _) = carol.requests("rpc", RequestLimits::default()).unwrap();
        carol.dial(bob.dial_addrs().remove(0)).await.unwrap();
        soon(carol.wait_established(bob.peer_id())).await.unwrap();
        soon(bob.wait_established(carol.peer_id())).await.unwrap();
        let to = bob.peer_id();
        let ask = |requester: &Requester, text: &'static str| {
            let requester = requester.clone();
            let data = [text.as_bytes(), &[0; 900]].concat();
            tokio::spawn(async move { requester.request(to, data, LONG).await })
        };
        let received = || {
            let stats = bob.peer_statistics(alice.peer_id());
            stats.and_then(|stats| Some(stats.streams.get("rpc")?.messages_received)).unwrap_or(0)
        };
        // One is cancelled before the application looks.
        assert!(requester.request(to, vec![0; 900], LONG).now_or_never().is_none());
        eventually("it is cancelled", || received() == 2).await;
        let first = waits(ask(&requester, "first")).await;
        let mut held = soon(incoming.recv()).await.unwrap();
        assert!(held.data.starts_with(b"first"));
        // The session of another ends before the application looks.
        let lost = waits(ask(&requester, "lost")).await;
        alice.disconnect(to).await.unwrap();
        soon(held.cancelled()).await;
        let last = waits(ask(&of_carol, "last")).await;
        let request = soon(incoming.recv()).await.unwrap();
        assert!(request.data.starts_with(b"last"));
        request.respond("done").await.unwrap();
        assert_eq!(soon(last).await.unwrap().unwrap(), "done");
        assert!(soon(first).await.unwrap().is_err() && soon(lost).await.unwrap().is_err());
    });
}

/// Gives a request the time to be refused, which it is not.
async fn waits<T: std::fmt::Debug>(mut asked: JoinHandle<T>) -> JoinHandle<T> {
    let refused = timeout(Duration::from_millis(300), &mut asked).await;
    assert!(refused.is_err(), "{refused:?}");
    asked
}

/// Frames of requests by hand, as a peer may write them.
fn frame(kind: u8, id: u64) -> Vec<u8> {
    let patience: &[u8] = if kind == 1 { &[255; 4] } else { &[] };
    [&[kind][..], &id.to_be_bytes(), patience, b"x"].concat()
}

/// A peer that cancels takes no further place: the application may still work on what it asked.
#[test]
fn what_is_cancelled_counts_until_the_application_lets_go_of_it() {
    run(async {
        let mut limits = RequestLimits::default();
        limits.max_served = 2;
        let (alice, bob) = (node(1).await, node(2).await);
        let mut answers = alice.messages().unwrap();
        let (_asks, mut incoming) = bob.requests("rpc", limits).unwrap();
        alice.dial(bob.dial_addrs().remove(0)).await.unwrap();
        soon(alice.wait_established(bob.peer_id())).await.unwrap();
        let send = async |kind, id| {
            alice.send(bob.peer_id(), "rpc", frame(kind, id)).await.unwrap();
        };
        let mut kept = Vec::new();
        for _ in 0..2 {
            send(1, 7).await;
            let mut request = soon(incoming.recv()).await.unwrap();
            send(6, 7).await;
            soon(request.cancelled()).await;
            kept.push(request);
        }
        send(1, 7).await;
        let busy = loop {
            let message = soon(answers.recv()).await.unwrap();
            if message.stream() == "rpc" {
                break message.data;
            }
        };
        assert_eq!(busy, [&[4][..], &7_u64.to_be_bytes()].concat(), "a third one is served");
        // One of the first two is dropped, and says nothing to the one that has its id now.
        drop(kept.pop());
        send(1, 7).await;
        let third = soon(incoming.recv()).await.unwrap();
        assert!(kept[0].is_cancelled() && !third.is_cancelled());
        drop(kept);
        assert!(!third.is_cancelled());
        third.respond("third").await.unwrap();
        let answer = soon(answers.recv()).await.unwrap();
        assert_eq!(answer.data, [&[2][..], &7_u64.to_be_bytes(), b"third"].concat());
    });
}

/// Refusals wait for room like answers do, as many as a peer may have requests.
#[test]
fn a_peer_whose_queue_is_full_is_refused_all_the_same() {
    run(async {
        let mut limits = RequestLimits::default();
        limits.max_served = 2;
        let (alice, bob) = (node(1).await, node(2).await);
        let mut answers = alice.messages().unwrap();
        let (asks, mut incoming) = bob.requests("rpc", limits).unwrap();
        alice.dial(bob.dial_addrs().remove(0)).await.unwrap();
        soon(alice.wait_established(bob.peer_id())).await.unwrap();
        let send = async |id| alice.send(bob.peer_id(), "rpc", frame(1, id)).await.unwrap();
        for id in [1, 2] {
            send(id).await;
        }
        let held = [soon(incoming.recv()).await.unwrap(), soon(incoming.recv()).await.unwrap()];
        // Alice reads nothing, until nothing more goes out.
        let filling =
            async { while bob.send(alice.peer_id(), "rpc", vec![200; 1 << 20]).await.is_ok() {} };
        let at_rest = async {
            let mut before = u64::MAX;
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let sent = bob.peer_statistics(alice.peer_id()).unwrap().messages_sent;
                if std::mem::replace(&mut before, sent) == sent {
                    break;
                }
            }
        };
        tokio::select! {
            () = filling => panic!("the session has ended"),
            () = at_rest => {}
        }
        for id in 3..=5 {
            send(id).await;
        }
        eventually("one refusal too many is dropped", || asks.ignored() == 1).await;
        let mut refused = Vec::new();
        while refused.len() < 2 {
            let message = soon(answers.recv()).await.unwrap();
            if message.data.len() == 9 {
                refused.push(message.data);
            }
        }
        // Each waits for itself.
        refused.sort();
        assert_eq!(refused, [3, 4].map(|id: u64| [&[4][..], &id.to_be_bytes()].concat()));
        drop(held);
    });
}
