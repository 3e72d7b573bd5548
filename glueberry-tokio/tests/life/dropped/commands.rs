//! Commands: dialling, the handshake, observing, starting and ending.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use glueberry_tokio::proto::handler::{Context, Handler, Notice};
use glueberry_tokio::runtime::TokioRuntime;
use glueberry_tokio::{
    ConnectionState, ErrorCode, Handshake, Node, PublicKey, ReconnectPolicy, StreamName,
    run_handler,
};
use tokio::time::timeout;

use super::each;
use crate::support::{Party, STREAM, STREAMS, any_port, eventually, key, pair, quick, run};

const LONG: Duration = Duration::from_secs(60);

/// Two that have just met, and have said nothing.
async fn connected() -> (Party, Party) {
    let (a, b) = (Party::new(quick()).await, Party::new(quick()).await);
    a.dial(&b).await;
    eventually("connected", || b.state(&a) == ConnectionState::Connected).await;
    (a, b)
}

/// The other side completes, and a message arrives.
async fn works(a: &Party, b: &mut Party) {
    for (one, other) in [(&*b, a), (a, &*b)] {
        eventually("established", || one.state(other) == ConnectionState::Established).await;
    }
    a.node.send(b.id(), STREAM, "hello").await.unwrap();
    assert_eq!(timeout(LONG, b.message()).await.unwrap().data, "hello");
}

/// A call is made, dropped, and made again: it must succeed, or say that it was done before.
async fn again(done: bool, result: Result<(), glueberry_tokio::Error>, before: &[ErrorCode]) {
    match result {
        Ok(()) => {}
        Err(error) => assert!(before.contains(&error.code()), "{done} {error:#}"),
    }
}

#[test]
fn a_handshake_goes_on_wherever_one_of_its_commands_is_dropped() {
    run(async {
        each("complete_handshake", async |polls| {
            let (a, mut b) = connected().await;
            let complete = || a.node.complete_handshake(b.id(), key(b.id()), &STREAMS);
            b.node.prepare_streams(a.id(), key(a.id()), &STREAMS).await.unwrap();
            b.greet();
            let finalizing = b.node.clone();
            let of = a.id();
            let other = tokio::spawn(async move { finalizing.finalize_handshake(of).await });
            let done = polls.of(complete()).await;
            let second = complete().await;
            again(done.is_some(), second, &[ErrorCode::StreamClosed]).await;
            timeout(LONG, other).await.unwrap().unwrap().unwrap();
            works(&a, &mut b).await;
            done.is_some()
        })
        .await;
        each("prepare_streams and finalize_handshake", async |polls| {
            let (a, mut b) = connected().await;
            let (node, of) = (b.node.clone(), a.id());
            let other =
                tokio::spawn(async move { node.complete_handshake(of, key(of), &STREAMS).await });
            let prepare = || a.node.prepare_streams(b.id(), key(b.id()), &STREAMS);
            let done = polls.of(prepare()).await.is_some();
            again(done, prepare().await, &[]).await;
            let finalize = || a.node.finalize_handshake(b.id());
            let done = polls.of(finalize()).await.is_some() && done;
            again(done, finalize().await, &[ErrorCode::StreamClosed]).await;
            timeout(LONG, other).await.unwrap().unwrap().unwrap();
            works(&a, &mut b).await;
            done
        })
        .await;
    });
}

#[test]
fn a_greeting_goes_on_though_it_is_not_awaited() {
    run(async {
        each("greet", async |polls| {
            let with = |handshake: Handshake| {
                let identity = glueberry_tokio::identity::Keypair::generate_ed25519();
                Party::of(identity, quick(), |builder| builder.handshake(handshake))
            };
            let a = with(Handshake::on_request()).await;
            let mut b = with(Handshake::accept_all()).await;
            a.dial(&b).await;
            let done = polls.of(a.node.greet(b.id())).await;
            a.node.greet(b.id()).await.unwrap();
            works(&a, &mut b).await;
            done.is_some()
        })
        .await;
    });
}

#[test]
fn dials_and_waits_that_are_dropped_leave_the_next_ones_alone() {
    run(async {
        each("dial, connect and wait_established", async |polls| {
            let (a, mut b) = (Party::greeting(quick()).await, Party::greeting(quick()).await);
            let address = b.node.dial_addrs().remove(0);
            let dialled = polls.of(a.node.dial(address.clone())).await;
            a.node.add_peer(b.id(), b.node.addrs()).await.unwrap();
            let connected = polls.of(a.node.connect(b.id())).await;
            let waited = polls.of(a.node.wait_established(b.id())).await;
            again(
                connected.is_some(),
                a.node.connect(b.id()).await,
                &[ErrorCode::AlreadyConnected],
            )
            .await;
            assert_eq!(a.node.dial(address).await.unwrap(), b.id());
            a.node.wait_established(b.id()).await.unwrap();
            works(&a, &mut b).await;
            dialled.is_some() && connected.is_some() && waited.is_some()
        })
        .await;
    });
}

#[test]
fn commands_that_are_dropped_are_done_or_not() {
    run(async {
        let (a, mut b) = pair(quick()).await;
        each("protect", async |polls| {
            let done = polls.of(a.node.protect(b.id(), true)).await;
            a.node.protect(b.id(), false).await.unwrap();
            done.is_some()
        })
        .await;
        each("set_reconnect_policy", async |polls| {
            let policy = Some(ReconnectPolicy::unlimited());
            let done = polls.of(a.node.set_reconnect_policy(b.id(), policy)).await;
            a.node.set_reconnect_policy(b.id(), policy).await.unwrap();
            done.is_some()
        })
        .await;
        each("autoconnect", async |polls| {
            let done = polls.of(a.node.autoconnect()).await;
            a.node.autoconnect().await.unwrap();
            done.is_some()
        })
        .await;
        each("health", async |polls| {
            let done = polls.of(a.node.health()).await;
            assert!(a.node.health().await.is_healthy);
            done.is_some()
        })
        .await;
        each("debug_state", async |polls| {
            let done = polls.of(a.node.debug_state()).await;
            a.node.debug_state().await.unwrap();
            done.is_some()
        })
        .await;
        works(&a, &mut b).await;
        each("disconnect", async |polls| {
            let done = polls.of(a.node.disconnect(b.id())).await;
            again(done.is_some(), a.node.disconnect(b.id()).await, &[ErrorCode::NotConnected])
                .await;
            eventually("it is over", || a.state(&b) == ConnectionState::Disconnected).await;
            // The other may refuse for a while, as it was left.
            eventually("it is refused no longer", || {
                a.node.connect(b.id()).now_or_never();
                a.state(&b) == ConnectionState::Established
            })
            .await;
            works(&a, &mut b).await;
            done.is_some()
        })
        .await;
        // One that is gone is dialled again and again.
        b.node.shutdown().await;
        each("cancel_reconnection", async |polls| {
            eventually("it reconnects", || {
                a.node.connect(b.id()).now_or_never();
                a.state(&b) == ConnectionState::Reconnecting
            })
            .await;
            let done = polls.of(a.node.cancel_reconnection(b.id())).await;
            let second = a.node.cancel_reconnection(b.id()).await;
            again(done.is_some(), second, &[ErrorCode::NotConnected]).await;
            done.is_some()
        })
        .await;
    });
}

struct Counts(Arc<std::sync::atomic::AtomicUsize>);

impl Handler for Counts {
    fn on_event(&mut self, _: &mut dyn Context, _: Notice) {}

    fn on_message(&mut self, _: &mut dyn Context, _: PublicKey, _: &StreamName, _: bytes::Bytes) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }

    fn on_timer(&mut self, _: &mut dyn Context, _: u64) {}
}

/// A program that is dropped leaves the node to its other handles.
#[test]
fn a_program_that_is_dropped_leaves_the_node() {
    run(async {
        each("run_handler", async |polls| {
            let (a, mut b) = (Party::new(quick()).await, Party::greeting(quick()).await);
            let Party { node, messages, events } = a;
            let streams = STREAMS.map(|name| StreamName::new(name).unwrap());
            let runtime = Arc::new(TokioRuntime::current().unwrap());
            let program = Counts(Arc::default());
            let running = run_handler(&node, events, messages, runtime, &streams, program);
            drop(polls.of(running).await);
            crate::support::greet(node.clone());
            node.add_peer(b.id(), b.node.addrs()).await.unwrap();
            node.connect(b.id()).await.unwrap();
            eventually("established", || {
                node.connection_state(b.id()) == ConnectionState::Established
            })
            .await;
            node.send(b.id(), STREAM, "hello").await.unwrap();
            assert_eq!(timeout(LONG, b.message()).await.unwrap().data, "hello");
            // It never ends by itself.
            polls.0 == 4
        })
        .await;
    });
}

#[test]
fn a_node_starts_and_ends_wherever_it_is_dropped() {
    run(async {
        let folder = std::env::temp_dir().join(format!("glueberry-dropped-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let identity = crate::support::keypair(77);
        let mut listen = any_port();
        each("build and shutdown", async |polls| {
            let builder = || {
                let builder = Node::builder(identity.clone()).streams(STREAMS).config(quick());
                builder.listen(listen.clone()).address_book(folder.join("book.json"))
            };
            let built = polls.of(builder().build()).await;
            let is_built = built.is_some();
            if let Some(node) = built {
                node.unwrap().shutdown().await;
            }
            let mut node = None;
            // The port and the book of one that was dropped are free soon.
            for _ in 0..1000 {
                match builder().build().await {
                    Ok(built) => node = Some(built),
                    Err(error) => {
                        let codes = [ErrorCode::ListenFailed, ErrorCode::AddressBookFailed];
                        assert!(codes.contains(&error.code()), "{error:#}");
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                }
                break;
            }
            let node = node.expect("the port and the book are still in use");
            listen = node.addrs().remove(0);
            let done = polls.of(node.shutdown()).await;
            node.shutdown().await;
            is_built && done.is_some()
        })
        .await;
        std::fs::remove_dir_all(folder).unwrap();
    });
}
