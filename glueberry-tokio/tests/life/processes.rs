//! Peers that are processes of their own, killed and frozen.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use glueberry_tokio::{CloseReason, ConnectionState, Multiaddr, StateReason};

use crate::support::{Party, STREAM, any_port, greet, key, keypair, quick, run};

const ROLE: &str = "GLUEBERRY_TEST_ROLE";
const TARGET: &str = "GLUEBERRY_TEST_TARGET";
pub(crate) const PARENT: u8 = 1;
pub(crate) const CHILD: u8 = 2;

/// Not a test of its own: what a child process does.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let target = std::env::var(TARGET).unwrap();
    run(async move {
        let is_hoarder = role == "hoard";
        let config = if is_hoarder { crate::memory::small() } else { quick() };
        let listen: Multiaddr = if role == "listen" { target.parse().unwrap() } else { any_port() };
        let node = glueberry_tokio::Node::builder(keypair(CHILD))
            .streams(crate::support::STREAMS)
            .config(config)
            .listen(listen)
            .build()
            .await
            .unwrap();
        greet(node.clone());
        if is_hoarder {
            // It reads what its friend says, and nothing else.
            let _unread = node.messages().unwrap();
            let friend = keypair(PARENT).public().to_peer_id();
            node.add_peer(friend, Vec::<Multiaddr>::new()).await.unwrap();
            let mut said = node.stream(friend, STREAM).unwrap();
            println!("listening {}", node.addrs()[0]);
            while let Some(data) = said.recv().await {
                node.send(friend, STREAM, data).await.unwrap();
            }
            return;
        }
        let mut messages = node.messages().unwrap();
        let mut established = node.events_for_states([ConnectionState::Established]);
        let parent = keypair(PARENT).public().to_peer_id();
        println!("listening {}", node.addrs()[0]);
        if role == "dial" {
            node.add_peer(parent, [target.parse().unwrap()]).await.unwrap();
            // If it fails, on a busy machine perhaps, it is tried again by itself.
            drop(node.connect(parent).await);
        }
        loop {
            tokio::select! {
                Some(_) = established.recv() => {
                    drop(node.send(parent, STREAM, "hello").await);
                }
                Some(message) = messages.recv() => {
                    if !message.is_handshake() {
                        drop(node.send(parent, STREAM, message.data).await);
                    }
                }
                else => return,
            }
        }
    });
}

/// A child process, killed when it is dropped.
pub(crate) struct Peer {
    process: Child,
    /// Whose other end must stay open, as a test that runs for a minute says so there.
    _output: Lines<BufReader<ChildStdout>>,
    pub(crate) address: Multiaddr,
}

impl Peer {
    pub(crate) fn start(role: &str, target: &Multiaddr) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::child", "--nocapture"])
            .env(ROLE, role)
            .env(TARGET, target.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening ").map(str::to_owned))
            .expect("the child says where it listens");
        Self { process, _output: lines, address: address.parse().unwrap() }
    }

    /// Returns the bytes of memory that the process occupies.
    pub(crate) fn resident(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status()
            .expect("there is a kill command");
        assert!(status.success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

async fn parent() -> Party {
    let parent = Party::of(keypair(PARENT), quick(), |builder| builder).await;
    parent.greet();
    parent
}

#[test]
fn a_peer_that_is_killed_and_redials_is_established_again_25_times() {
    run(async {
        let mut parent = parent().await;
        for round in 0..25 {
            let _peer = Peer::start("dial", &parent.node.addrs()[0]);
            parent.until(ConnectionState::Established).await;
            let message = parent.message().await;
            assert_eq!(message.data, "hello", "round {round}");
            parent.node.send(message.peer, STREAM, format!("round {round}")).await.unwrap();
            assert_eq!(parent.message().await.data, format!("round {round}"));
        }
    });
}

#[test]
fn a_peer_that_is_killed_and_restarted_is_reconnected_to_25_times() {
    run(async {
        let mut parent = parent().await;
        let child = keypair(CHILD).public().to_peer_id();
        let mut peer = Peer::start("listen", &any_port());
        let address = peer.address.clone();
        parent.node.add_peer(child, [address.clone()]).await.unwrap();
        parent.node.connect(child).await.unwrap();
        for round in 0..25 {
            parent.until(ConnectionState::Established).await;
            assert_eq!(parent.message().await.data, "hello", "round {round}");
            drop(peer);
            peer = Peer::start("listen", &address);
            let lost = parent.until(ConnectionState::Disconnected).await;
            assert!(
                matches!(
                    lost.reason,
                    Some(StateReason::SessionEnded(CloseReason::ConnectionLost(_)))
                ),
                "{lost:?}"
            );
        }
        parent.until(ConnectionState::Established).await;
    });
}

#[test]
fn a_frozen_peer_is_noticed_within_the_keepalive_bound() {
    run(async {
        let mut parent = parent().await;
        let peer = Peer::start("dial", &parent.node.addrs()[0]);
        parent.until(ConnectionState::Established).await;
        peer.signal("-STOP");
        let frozen = Instant::now();
        parent.until(ConnectionState::Disconnected).await;
        let bound = quick().keep_alive * quick().lost_after + Duration::from_secs(2);
        assert!(frozen.elapsed() <= bound, "{:?} is more than {bound:?}", frozen.elapsed());
        peer.signal("-CONT");
        // It finds its connection gone, and comes back by itself.
        parent.until(ConnectionState::Established).await;
        assert_eq!(key(keypair(CHILD).public().to_peer_id()), key(parent.message().await.peer));
    });
}
