//! What people read when something fails: the error, its causes and the hint.
//!
//! `cargo test -p glueberry-tokio --test life advice -- --nocapture` prints all of it.

#![expect(clippy::print_stdout, reason = "the texts are there to be read")]

use std::error::Error as _;
use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Config, Error, ErrorCode, Multiaddr, Node, Profile, ReconnectPolicy};

use crate::book::Folder;
use crate::support::{Party, STREAM, any_port, eventually, key, keypair, pair, quick, run};

/// Collects errors, and checks what holds of each.
#[derive(Default)]
struct Read(Vec<(String, ErrorCode)>);

impl Read {
    /// `hint` must be in the hint, and `cause` in the error with its causes.
    #[track_caller]
    fn error(&mut self, error: &Error, cause: &str, hint: &str) {
        let full = format!("{error:#}");
        let mut texts = vec![error.to_string()];
        let mut source = error.source();
        while let Some(error) = source {
            texts.push(error.to_string());
            source = error.source();
        }
        println!(
            "{}\n  ({}; retriable: {})",
            texts.join("\n  <- "),
            error.hint(),
            error.is_retriable()
        );
        assert_eq!(full, texts.join(": "), "each cause once");
        for (at, text) in texts.iter().enumerate().skip(1) {
            assert!(!texts[at - 1].contains(text.as_str()), "`{text}` is said twice: {full}");
        }
        assert!(!full.contains('\n'), "{full}");
        assert!(!full.contains("with peer"), "{full}");
        assert!(full.contains(cause), "`{cause}` is not in {full}");
        assert!(error.hint().contains(hint), "`{hint}` is not in `{}` of {full}", error.hint());
        self.0.push((full, error.code()));
    }
}

#[test]
fn of_commands() {
    run(async {
        let mut read = Read::default();
        let mut config = quick();
        (config.core.high_watermark, config.core.low_watermark) = (2, 1);
        let (a, b) = pair(config).await;
        let stranger = keypair(9).public().to_peer_id();
        let fine: Multiaddr = "/ip4/192.0.2.1/udp/1/quic-v1".parse().unwrap();
        let node = &a.node;

        let error = node.connect(stranger).await.unwrap_err();
        read.error(&error, "no address is known", "add the peer");
        let error = node.connect(a.id()).await.unwrap_err();
        read.error(&error, "oneself", "own id");
        let error = node.add_peer(a.id(), [fine.clone()]).await.unwrap_err();
        read.error(&error, "no peer of itself", "own id");
        let error = node.connect(b.id()).await.unwrap_err();
        read.error(&error, "there is a session", "nothing needs to be done");
        let not_ed25519 = Keypair::generate_secp256k1().public().to_peer_id();
        let error = node.connect(not_ed25519).await.unwrap_err();
        read.error(&error, "public key", "Ed25519");
        let error = node.unblacklist_peer(stranger).await.unwrap_err();
        read.error(&error, "not banned", "no ban");
        let error = node.remove_peer(stranger).await.unwrap_err();
        read.error(&error, "not in the address book", "add the peer");
        let error = node.disconnect(stranger).await.unwrap_err();
        read.error(&error, "no session, dial", "nothing to end");
        let error = node.send(stranger, STREAM, "x").await.unwrap_err();
        read.error(&error, "no session with the peer", "connect");
        let error = node.send(b.id(), "handshake", "x").await.unwrap_err();
        read.error(&error, "handshake is over", "named stream");
        let error = node.send(b.id(), "none", "x").await.unwrap_err();
        read.error(&error, "not prepared", "builder's streams");
        let error = node.finalize_handshake(b.id()).await.unwrap_err();
        read.error(&error, "already finalized", "it is complete");
        let error = node.prepare_streams(b.id(), key(b.id()), &["handshake"]).await.unwrap_err();
        read.error(&error, "reserved", "reserved");
        let error = node.prepare_streams(b.id(), key(b.id()), &["a b"]).await.unwrap_err();
        read.error(&error, "invalid character", "A-Z");
        let _taken = node.stream(b.id(), STREAM).unwrap();
        let error = node.stream(b.id(), STREAM).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StreamTaken);
        read.error(&error, "there is a handle", "use the handle");
        let full = (0..1_000).find_map(|_| node.try_send(b.id(), STREAM, "x").err()).unwrap();
        read.error(&full, "queue is full", "slow down");
        let error = node.add_peer(stranger, vec![fine.clone(); 17]).await.unwrap_err();
        assert!(!error.is_retriable());
        read.error(&error, "17 addresses", "fewer addresses");
        let any = "/ip4/0.0.0.0/udp/1/quic-v1".parse().unwrap();
        let error = node.add_peer(stranger, [any]).await.unwrap_err();
        read.error(&error, "0.0.0.0", "addrs");
        let error = node.reload_address_book().await.unwrap_err();
        read.error(&error, "has no file", "name a file");
        node.blacklist_peer(stranger, None).await.unwrap();
        let error = node.connect(stranger).await.unwrap_err();
        read.error(&error, "blacklisted", "unblacklist_peer");
        node.shutdown().await;
        let error = node.send(b.id(), STREAM, "x").await.unwrap_err();
        read.error(&error, "stopped", "another node");
    });
}

#[test]
fn of_dials() {
    run(async {
        let mut read = Read::default();
        let mut config = quick();
        config.core.reconnect = ReconnectPolicy::never();
        config.core.dial_timeout = Duration::from_secs(5);
        let (a, b) = (Party::new(config.clone()).await, Party::new(config).await);
        let stranger = keypair(9).public().to_peer_id();
        a.node.add_peer(stranger, b.node.addrs()).await.unwrap();
        let error = a.node.connect(stranger).await.unwrap_err();
        assert!(!error.is_retriable());
        read.error(&error, "answered by", "another node is at that address");
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = closed.local_addr().unwrap().port();
        let silent = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
        a.node.add_peer(stranger, [silent]).await.unwrap();
        let error = a.node.connect(stranger).await.unwrap_err();
        assert!(error.is_retriable());
        read.error(&error, "timed out", "is the peer running");
        // It bans this node, so its transport lets it in, and its node does not.
        b.node.blacklist_peer(a.id(), None).await.unwrap();
        a.knows(&b).await;
        let error = a.node.connect(b.id()).await.unwrap_err();
        read.error(&error, "takes no connection", "does it ban it");
    });
}

/// In v2 the peer says so itself; in v1 only its transport does.
#[test]
fn of_a_peer_that_rejects() {
    run(async {
        let mut read = Read::default();
        for profile in [Profile::V2, Profile::V1] {
            let mut config = quick();
            config.core.profiles = vec![profile];
            let (a, b) = (Party::new(config.clone()).await, Party::new(config).await);
            a.dial(&b).await;
            // From here on in v2 a side can say why it ends the session.
            eventually("both know what the session gives", || {
                a.node.session_info(b.id()).is_some() && b.node.session_info(a.id()).is_some()
            })
            .await;
            let mut events = a.node.events_for_peer(b.id());
            b.node.reject_handshake(a.id(), "not wanted").unwrap();
            let (error, ()) = tokio::join!(a.node.wait_established(b.id()), async {
                while events.recv().await.unwrap().state().is_none() {}
            });
            let error = error.unwrap_err();
            assert!(!error.is_retriable(), "{error:?}");
            read.error(&error, "does not want this node", "does not want this node");
            let code = match profile {
                Profile::V2 => ErrorCode::HandshakeFailed,
                _ => ErrorCode::ConnectionFailed,
            };
            assert_eq!(error.code(), code, "{profile}");
        }
    });
}

/// What a `main` that returns the error prints.
#[test]
fn of_those_who_print_it_for_debugging() {
    run(async {
        let a = Party::new(quick()).await;
        let error = a.node.connect(keypair(9).public().to_peer_id()).await.unwrap_err();
        let text = format!("{error:?}");
        assert_eq!(text, format!("{error:#}; {}", error.hint()));
        let parts = format!("{error:#?}");
        assert!(parts.contains("code: PeerNotFound"), "{parts}");
    });
}

#[test]
fn of_builders() {
    run(async {
        let mut read = Read::default();
        let builder = || Node::builder(keypair(8));
        let first = builder().listen(any_port()).build().await.unwrap();
        let taken = first.addrs()[0].clone();
        let error = builder().listen(taken).build().await.unwrap_err();
        read.error(&error, "in use", "another socket has that port");
        let foreign = "/ip4/192.0.2.1/udp/0/quic-v1".parse().unwrap();
        let error = builder().listen(foreign).build().await.unwrap_err();
        read.error(&error, "192.0.2.1", "none of this machine's");
        let tcp = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        let error = builder().listen(tcp).build().await.unwrap_err();
        read.error(&error, "/udp", "/quic-v1");
        let error = builder().streams(["handshake"]).build().await.unwrap_err();
        read.error(&error, "reserved", "reserved");
        let error = Node::builder(Keypair::generate_secp256k1()).build().await.unwrap_err();
        read.error(&error, "not ed25519", "generate_ed25519");
        let mut config = Config::default();
        config.core.max_dials = 0;
        let error = builder().config(config).build().await.unwrap_err();
        read.error(&error, "max_dials", "correct what is named");
        let folder = Folder::new("advice");
        let held = builder().address_book(folder.book()).build().await.unwrap();
        let error = builder().address_book(folder.book()).build().await.unwrap_err();
        read.error(&error, "in use", "another node has this book");
        let in_a_file = std::env::current_exe().unwrap().join("book.json");
        let error = builder().address_book(in_a_file).build().await.unwrap_err();
        read.error(&error, "folder is missing", "folder");
        let error = builder().address_book(&folder.0).build().await.unwrap_err();
        read.error(&error, "no file", "name a file");
        held.shutdown().await;
    });
    // Other runtimes are there without being named.
    if cfg!(not(any(feature = "smol", feature = "async-std"))) {
        let error = futures_util::FutureExt::now_or_never(Node::builder(keypair(8)).build());
        let error = error.unwrap().unwrap_err();
        Read::default().error(&error, "no runtime", "tokio runtime");
    }
}
