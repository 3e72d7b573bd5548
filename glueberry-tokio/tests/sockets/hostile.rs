//! A peer that is authenticated and says what it should not: quinn and libp2p-tls by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::proto::compat::Cipher;
use glueberry_tokio::proto::{ConnectionLost, DialError, Identity, PeerMisbehaved, RecordError};
use glueberry_tokio::runtime::Runtime;
use glueberry_tokio::{
    CloseReason, Config, ConnectionState, Event, Metrics, Multiaddr, StateReason,
};
use multiaddr::Protocol;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, RecvStream, SendStream};

use crate::support::{Party, STREAM, establish, on_every_runtime};

#[test]
fn junk_ends_a_session_at_most_and_the_node_stays_usable() {
    on_every_runtime(|runtime| Box::pin(junk(runtime)));
}

async fn junk(runtime: Arc<dyn Runtime>) {
    let (mut a, mut b) = (Party::new(&runtime).await, Party::new(&runtime).await);
    for junk in
        [&b"\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"GET / HTTP/1.1\r\n\r\n", b"", &[0; 5000]]
    {
        let peer = dial(&runtime, &a).await;
        let (mut send, mut recv) = peer.open_bi().await.unwrap();
        // It may have been stopped by then.
        drop(send.write_all(junk).await);
        drop(send.finish());
        drop(recv.read_to_end(1000).await);
        peer.close(9_u32.into(), b"");
    }
    establish(&mut a, &mut b, &[STREAM]).await;
}

#[test]
fn other_protocols_are_declined_and_no_misbehaviour() {
    on_every_runtime(|runtime| Box::pin(other_protocols(runtime)));
}

async fn other_protocols(runtime: Arc<dyn Runtime>) {
    let a = Party::new(&runtime).await;
    let peer = dial(&runtime, &a).await;
    let (mut send, mut recv) = peer.open_bi().await.unwrap();
    say(&mut send, "/multistream/1.0.0").await;
    say(&mut send, "/ipfs/id/1.0.0").await;
    assert_eq!(hear(&mut recv).await, "/multistream/1.0.0");
    assert_eq!(hear(&mut recv).await, "na");
    say(&mut send, "/glueberry/handshake/1.0.0").await;
    assert_eq!(hear(&mut recv).await, "/glueberry/handshake/1.0.0");
}

#[test]
fn a_handshake_message_above_the_limit_is_refused_before_it_comes() {
    on_every_runtime(|runtime| Box::pin(oversize(runtime)));
}

async fn oversize(runtime: Arc<dyn Runtime>) {
    let mut a = Party::new(&runtime).await;
    let peer = dial(&runtime, &a).await;
    let (mut send, mut recv) = peer.open_bi().await.unwrap();
    say(&mut send, "/multistream/1.0.0").await;
    say(&mut send, "/glueberry/handshake/1.0.0").await;
    hear(&mut recv).await;
    hear(&mut recv).await;
    // Sixteen mebibytes are announced, and none of them sent.
    send.write_all(&[1, 0, 0, 0]).await.unwrap();
    let reason = a
        .event(|event| match event {
            Event::SessionClosed { closed, .. } => Some(closed.reason),
            _ => None,
        })
        .await;
    let misbehaved =
        PeerMisbehaved::MessageTooLarge { stream: None, announced: 1 << 24, limit: 65_536 };
    assert_eq!(reason, CloseReason::Misbehaved(misbehaved));
    let mut b = Party::new(&runtime).await;
    establish(&mut a, &mut b, &[STREAM]).await;
}

#[test]
fn a_record_that_does_not_open_is_told_and_counted_and_the_stream_goes_on() {
    on_every_runtime(|runtime| Box::pin(bad_record(runtime)));
}

#[test]
fn a_connection_that_is_lost_during_the_handshake_is_told_as_lost() {
    on_every_runtime(|runtime| Box::pin(lost_early(runtime)));
}

async fn lost_early(runtime: Arc<dyn Runtime>) {
    let mut a = Party::new(&runtime).await;
    let identity = Keypair::generate_ed25519();
    let tls = libp2p_tls::make_server_config(&identity).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(
        quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap(),
    ));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        Some(config),
        socket,
        runtime.quinn().unwrap(),
    )
    .unwrap();
    runtime.spawn(Box::pin(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let _unanswered = connection.accept_bi().await.unwrap();
        connection.close(7_u32.into(), b"");
        endpoint.wait_idle().await;
    }));
    let id = identity.public().to_peer_id();
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
    a.node.add_peer(id, [address]).await.unwrap();
    a.node.connect(id).await.unwrap_err();
    let reason = a
        .event(|event| match event {
            Event::State(changed) if changed.state == ConnectionState::Disconnected => {
                changed.reason
            }
            _ => None,
        })
        .await;
    let lost = CloseReason::ConnectionLost(ConnectionLost::ClosedByPeer { code: 7 });
    assert_eq!(reason, StateReason::DialFailed(DialError::Session(lost)));
}

#[test]
fn a_substream_that_the_peer_does_not_answer_is_given_up() {
    on_every_runtime(|runtime| Box::pin(unanswered(runtime)));
}

async fn unanswered(runtime: Arc<dyn Runtime>) {
    let mut config = Config::default();
    config.core.negotiation_timeout = Duration::from_millis(300);
    let mut a = Party::with(&runtime, config, &[STREAM]).await;
    let (_, id, peer) = established(&runtime, &mut a).await;
    a.node.send(id, STREAM, "is anybody there?").await.unwrap();

    let (_unanswered, mut proposals) = peer.accept_bi().await.unwrap();
    let given_up = std::pin::pin!(proposals.read_to_end(1000));
    let patience = runtime.sleep_until(runtime.now() + Duration::from_secs(10));
    if let Either::Right(_) = select(given_up, patience).await {
        panic!("the substream is held for ever");
    }
}

#[test]
fn a_message_that_does_not_arrive_in_time_is_given_up_with_its_substream() {
    on_every_runtime(|runtime| Box::pin(half_a_message(runtime)));
}

async fn half_a_message(runtime: Arc<dyn Runtime>) {
    let mut config = Config::default();
    config.core.message_timeout = Duration::from_millis(300);
    let mut a = Party::with(&runtime, config, &[STREAM]).await;
    let (_, id, peer) = established(&runtime, &mut a).await;
    let (mut send, mut recv) = peer.open_bi().await.unwrap();
    say(&mut send, "/multistream/1.0.0").await;
    say(&mut send, "/glueberry/stream/chat/1.0.0").await;
    hear(&mut recv).await;
    hear(&mut recv).await;
    send.write_all(&60_000_u32.to_be_bytes()).await.unwrap();
    send.write_all(&[1; 1000]).await.unwrap();
    let given_up = std::pin::pin!(recv.read_to_end(1000));
    let patience = runtime.sleep_until(runtime.now() + Duration::from_secs(20));
    match select(given_up, patience).await {
        Either::Left((ended, _)) => assert!(ended.is_err(), "it was reset: {ended:?}"),
        Either::Right(_) => panic!("the substream is held for ever"),
    }
    assert_eq!(a.node.connection_state(id), ConnectionState::Established);
}

#[test]
fn before_the_handshake_little_is_taken_on_few_substreams() {
    on_every_runtime(|runtime| Box::pin(parked(runtime)));
}

async fn parked(runtime: Arc<dyn Runtime>) {
    let a = Party::new(&runtime).await;
    let peer = dial(&runtime, &a).await;
    let mut parked = Vec::new();
    for number in 0..10 {
        let (mut send, mut recv) = peer.open_bi().await.unwrap();
        say(&mut send, "/multistream/1.0.0").await;
        say(&mut send, "/glueberry/stream/chat/1.0.0").await;
        hear(&mut recv).await;
        let is_accepted = hear(&mut recv).await != "na";
        assert_eq!(is_accepted, number < 4, "{number}");
        if is_accepted {
            parked.push((send, recv));
        }
    }
    let mut written = 0;
    for (send, _recv) in &mut parked {
        let writing = std::pin::pin!(async {
            while written <= 1 << 20 {
                written += send.write(&[7; 1024]).await.unwrap();
            }
        });
        drop(select(writing, runtime.sleep_until(runtime.now() + SETTLED)).await);
    }
    // What was read of the names makes room for a little more.
    assert!(written > 0 && written <= 66 * 1024, "{written} bytes were taken");
    assert_eq!(a.node.debug_state().await.unwrap().held_bytes, 0, "QUIC holds them");
}

/// Long enough for what can be written to be written, on a quiet machine; on a busy one less is.
const SETTLED: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
struct DecryptionErrors(AtomicUsize);

impl Metrics for DecryptionErrors {
    fn decryption_error(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

async fn bad_record(runtime: Arc<dyn Runtime>) {
    let errors = Arc::new(DecryptionErrors::default());
    let mut a = Party::counted(&runtime, errors.clone()).await;
    let (own, id, peer) = established(&runtime, &mut a).await;

    let (mut send, mut recv) = peer.open_bi().await.unwrap();
    say(&mut send, "/multistream/1.0.0").await;
    say(&mut send, "/glueberry/stream/chat/1.0.0").await;
    hear(&mut recv).await;
    hear(&mut recv).await;
    let cipher = Cipher::from_key(&own.agree_v1(&a.node.public_key()).unwrap());
    let mut bad = cipher.encrypt(b"bad", b"", &[1; 12]);
    bad[14] ^= 1;
    let good = cipher.encrypt(b"good", b"", &[2; 12]);
    for record in [bad, good] {
        let len = u32::try_from(record.len()).unwrap();
        send.write_all(&len.to_be_bytes()).await.unwrap();
        send.write_all(&record).await.unwrap();
    }
    let (from, error) = a
        .event(|event| match event {
            Event::RecordRejected { peer, error, .. } => Some((peer, error)),
            _ => None,
        })
        .await;
    assert_eq!((from, error), (id, RecordError::Authentication));
    assert_eq!(errors.0.load(Ordering::Relaxed), 1);
    assert_eq!(a.messages.recv().await.unwrap().data, "good");
}

/// Connects to a party whose application completes the handshake. Returns the peer's identity, its
/// id and the connection.
async fn established(runtime: &Arc<dyn Runtime>, to: &mut Party) -> (Identity, PeerId, Connection) {
    let identity = Keypair::generate_ed25519();
    let (id, own) = (identity.public().to_peer_id(), Identity::try_from(&identity).unwrap());
    let peer = dial_as(runtime, &identity, to).await;
    let (mut send, mut recv) = peer.open_bi().await.unwrap();
    say(&mut send, "/multistream/1.0.0").await;
    say(&mut send, "/glueberry/handshake/1.0.0").await;
    hear(&mut recv).await;
    hear(&mut recv).await;
    to.until(ConnectionState::Connected).await;
    to.node.complete_handshake(id, own.public_key(), &[STREAM]).await.unwrap();
    (own, id, peer)
}

/// Writes one message of multistream-select.
async fn say(send: &mut SendStream, text: &str) {
    let len = u8::try_from(text.len() + 1).unwrap();
    send.write_all(&[len]).await.unwrap();
    send.write_all(text.as_bytes()).await.unwrap();
    send.write_all(b"\n").await.unwrap();
}

async fn hear(recv: &mut RecvStream) -> String {
    let mut len = [0];
    recv.read_exact(&mut len).await.unwrap();
    let mut text = vec![0; usize::from(len[0])];
    recv.read_exact(&mut text).await.unwrap();
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

/// Connects by libp2p's own TLS.
async fn dial(runtime: &Arc<dyn Runtime>, to: &Party) -> Connection {
    dial_as(runtime, &Keypair::generate_ed25519(), to).await
}

async fn dial_as(runtime: &Arc<dyn Runtime>, identity: &Keypair, to: &Party) -> Connection {
    let tls = libp2p_tls::make_client_config(identity, Some(to.id())).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        None,
        socket,
        runtime.quinn().unwrap(),
    )
    .unwrap();
    endpoint.connect_with(config, address(&to.node.addrs()[0]), "l").unwrap().await.unwrap()
}

fn address(address: &Multiaddr) -> SocketAddr {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Udp(port))) => (ip, port).into(),
        _ => panic!("{address}"),
    }
}
