use std::pin::pin;

use futures_util::{
    FutureExt,
    future::{Either, join, select},
};
use quinn::{ConnectionError, VarInt};

use super::*;
#[cfg(feature = "tokio")]
use crate::quic::EndpointError;
use crate::quic::tls;

on_every_runtime!(
    both_ends_are_authenticated,
    data_flows_both_ways,
    keys_are_updated_by_both,
    wrong_peer_is_a_typed_error,
    listening_port_is_dialled_from,
    every_listening_socket_accepts,
    nobody_answers,
    closing_ends_everything,
    refused_is_told,
    quiet_connections_live,
    paused_substreams_stall_nobody,
    only_substreams_are_offered,
);

async fn both_ends_are_authenticated(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    assert_eq!(tls::peer_id(&pair.dialled).unwrap(), pair.listener.peer);
    assert_eq!(tls::peer_id(&pair.accepted).unwrap(), pair.dialler.peer);
    assert_eq!(pair.dialled.remote_address(), pair.listener.address());
}

async fn data_flows_both_ways(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let data: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    let near = async {
        let (mut send, mut recv) = pair.open().await;
        let written = async {
            send.write_all(&data).await.unwrap();
            send.finish().unwrap();
        };
        join(written, recv.read_to_end(data.len())).await.1.unwrap()
    };
    let far = async {
        let (mut send, mut recv) = pair.opened().await;
        let written = async {
            send.write_all(&data).await.unwrap();
            send.finish().unwrap();
        };
        join(written, recv.read_to_end(data.len())).await.1.unwrap()
    };
    let (near, far) = join(near, far).await;
    assert!(near == data && far == data);
}

async fn keys_are_updated_by_both(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    for round in 0..20 {
        let (mut send, mut recv) = pair.open().await;
        if round % 3 != 0 {
            pair.dialled.force_key_update();
        }
        send.write_all(b"there").await.unwrap();
        let (mut answer, mut asked) = pair.opened().await;
        if round % 3 != 1 {
            pair.accepted.force_key_update();
        }
        asked.read_exact(&mut [0; 5]).await.unwrap();
        answer.write_all(b"back").await.unwrap();
        recv.read_exact(&mut [0; 4]).await.unwrap();
    }
    assert_eq!((pair.dialled.close_reason(), pair.accepted.close_reason()), (None, None));
}

async fn wrong_peer_is_a_typed_error(runtime: Arc<dyn Runtime>) {
    let listener = Node::listening(&runtime);
    let dialler = Node::dialling(&runtime);
    let other = Keypair::generate_ed25519().public().to_peer_id();

    let dial = dialler.endpoint.dial(listener.address(), other);
    let (dialled, accepted) = join(dial, listener.accept()).await;
    let error = dialled.unwrap_err();
    assert!(
        matches!(&error, DialError::WrongPeer { expected, actual }
            if **expected == other && **actual == listener.peer),
        "{error:?}"
    );
    let error = accepted.unwrap_err();
    assert!(
        matches!(error, AcceptError::Connection(ConnectionError::ConnectionClosed(_))),
        "{error:?}"
    );

    let (dialled, accepted) = join(dialler.dial(&listener), listener.accept()).await;
    dialled.unwrap();
    assert_eq!(accepted.unwrap().1, dialler.peer);
}

async fn listening_port_is_dialled_from(runtime: Arc<dyn Runtime>) {
    let (one, two) = (Node::listening(&runtime), Node::listening(&runtime));
    let (_dialled, accepted) = join(one.dial(&two), two.accept()).await;
    assert_eq!(accepted.unwrap().0.remote_address(), one.address());
}

async fn every_listening_socket_accepts(runtime: Arc<dyn Runtime>) {
    let listen = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let mut listen = listen.to_vec();
    if std::net::UdpSocket::bind("[::1]:0").is_ok() {
        listen.push("/ip6/::1/udp/0/quic-v1");
    }
    let listener = Node::new(&runtime, &listen, &QuicConfig::default());
    let dialler = Node::dialling(&runtime);
    assert_eq!(listener.endpoint.addrs().len(), listen.len());
    for addr in listener.endpoint.addrs() {
        let address = QuicAddr::try_from(&addr).unwrap().socket;
        assert_ne!(address.port(), 0);
        let dial = dialler.endpoint.dial(address, listener.peer);
        let (dialled, accepted) = join(dial, listener.accept()).await;
        dialled.unwrap();
        assert_eq!(accepted.unwrap().1, dialler.peer);
    }
}

async fn nobody_answers(runtime: Arc<dyn Runtime>) {
    let config = impatient(50);
    let dialler = Node::new(&runtime, &[], &config);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error =
        dialler.endpoint.dial(silent.local_addr().unwrap(), dialler.peer).await.unwrap_err();
    assert!(matches!(error, DialError::Connection(ConnectionError::TimedOut)), "{error:?}");

    let nowhere = "127.0.0.1:0".parse().unwrap();
    let error = dialler.endpoint.dial(nowhere, dialler.peer).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(_)), "{error:?}");
}

async fn closing_ends_everything(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    pair.listener.endpoint.close(VarInt::from_u32(7), b"bye");
    assert!(pair.listener.endpoint.accept().await.is_none());
    let reason = pair.dialled.closed().await;
    assert!(
        matches!(&reason, ConnectionError::ApplicationClosed(close)
            if close.error_code == VarInt::from_u32(7) && &close.reason[..] == b"bye"),
        "{reason:?}"
    );
    pair.listener.endpoint.shut_down(&*runtime).await;

    let error = pair.listener.dial(&pair.listener).await.unwrap_err();
    assert!(matches!(error, DialError::Closed), "{error:?}");
    assert!(pair.dialler.endpoint.accept().await.is_none(), "it does not listen");
}

async fn refused_is_told(runtime: Arc<dyn Runtime>) {
    let (listener, dialler) = (Node::listening(&runtime), Node::dialling(&runtime));
    let refuse = async {
        let incoming = listener.endpoint.accept().await.unwrap();
        assert!(incoming.remote_address().ip().is_loopback());
        drop(incoming);
    };
    let (dialled, ()) = join(dialler.dial(&listener), refuse).await;
    let error = dialled.unwrap_err();
    assert!(
        matches!(error, DialError::Connection(ConnectionError::ConnectionClosed(_))),
        "{error:?}"
    );
}

async fn quiet_connections_live(runtime: Arc<dyn Runtime>) {
    let config = impatient(300);
    let pair = Pair::with(&runtime, &config).await;
    runtime.sleep_until(runtime.now() + Duration::from_millis(2_000)).await;
    assert!(pair.dialled.close_reason().is_none());
    assert!(pair.accepted.close_reason().is_none());
}

/// Every permitted substream but one is full and unread, in both ways of opening.
async fn paused_substreams_stall_nobody(runtime: Arc<dyn Runtime>) {
    let config = QuicConfig {
        inbound_substreams: 3,
        outbound_substreams: 2,
        stream_window: 10_000,
        ..QuicConfig::default()
    };
    let pair = Pair::with(&runtime, &config).await;
    let mut paused = Vec::new();
    for _ in 0..2 {
        let (mut send, recv) = pair.accepted.open_bi().await.unwrap();
        send.write_all(b"a").await.unwrap();
        let (mut far_send, far_recv) = pair.dialled.accept_bi().await.unwrap();
        fill(&runtime, &mut far_send).await;
        paused.push((send, recv, far_send, far_recv));
    }
    for _ in 0..2 {
        let (mut send, recv) = pair.open().await;
        fill(&runtime, &mut send).await;
        let (far_send, far_recv) = pair.opened().await;
        paused.push((send, recv, far_send, far_recv));
    }

    let (mut send, _recv) = pair.open().await;
    let (_, mut far) = join(send.write_all(&[7; 50_000]), async {
        let (_send, mut recv) = pair.opened().await;
        let mut data = vec![0; 50_000];
        recv.read_exact(&mut data).await.unwrap();
        data
    })
    .await;
    assert!(far.drain(..).all(|byte| byte == 7));
    assert!(pair.dialled.open_bi().now_or_never().is_none(), "no more than permitted");
}

/// Writes until the peer's window is full.
async fn fill(runtime: &Arc<dyn Runtime>, send: &mut quinn::SendStream) {
    let mut written = 0;
    while written < 10_000 {
        written += send.write(&[1; 4_000]).await.unwrap();
    }
    let wait = runtime.sleep_until(runtime.now() + Duration::from_millis(50));
    match select(pin!(send.write(&[1])), wait).await {
        Either::Left((more, _)) => panic!("the window has room: {more:?}"),
        Either::Right(_) => {}
    }
}

async fn only_substreams_are_offered(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    assert!(pair.dialled.open_uni().now_or_never().is_none());
    assert_eq!(pair.dialled.max_datagram_size(), None);
}

#[cfg(feature = "tokio")]
#[test]
fn lost_peer_is_noticed() {
    crate::runtime::tests::on_tokio(|runtime| async move {
        let silence = until_lost(runtime, &impatient(100)).await;
        assert!(silence < Duration::from_secs(2));
    });
}

/// A probe without an answer is no reason to wait longer.
#[cfg(feature = "tokio")]
#[test]
fn lost_peer_is_noticed_after_the_silence_that_is_configured() {
    crate::runtime::tests::on_tokio(|runtime| async move {
        for (keep_alive, lost_after) in [(2000, 3), (3000, 2)] {
            let config = QuicConfig { lost_after, ..impatient(keep_alive) };
            let silence = until_lost(runtime.clone(), &config).await;
            assert!(silence > Duration::from_secs(3), "{silence:?}");
            assert!(silence < Duration::from_millis(6800), "{silence:?}");
        }
    });
}

/// Returns how long it takes to notice that a peer's process has died, which says nothing.
#[cfg(feature = "tokio")]
async fn until_lost(runtime: Arc<dyn Runtime>, config: &QuicConfig) -> Duration {
    use crate::runtime::TokioRuntime;

    let doomed =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let theirs: Arc<dyn Runtime> = {
        let _inside = doomed.enter();
        Arc::new(TokioRuntime::current().unwrap())
    };
    let listener = Node::new(&theirs, &["/ip4/127.0.0.1/udp/0/quic-v1"], config);
    let dialler = Node::new(&runtime, &[], config);
    let (dialled, accepted) = join(dialler.dial(&listener), listener.accept()).await;
    let (dialled, _accepted) = (dialled.unwrap(), accepted.unwrap());
    // What belongs to the beginning of a connection is over by then.
    runtime.sleep_until(runtime.now() + Duration::from_millis(500)).await;

    let begin = runtime.now();
    doomed.shutdown_background();
    let reason = dialled.closed().await;
    assert_eq!(reason, ConnectionError::TimedOut);
    runtime.now() - begin
}

#[cfg(feature = "tokio")]
#[test]
fn what_cannot_be_bound_is_told() {
    crate::runtime::tests::on_tokio(|runtime| async move {
        let bind = |listen: &Multiaddr, config: &QuicConfig| {
            let identity = Keypair::generate_ed25519();
            Endpoint::bind(&*runtime, &identity, std::slice::from_ref(listen), config).unwrap_err()
        };
        let taken = Node::listening(&runtime);
        let error = bind(&taken.endpoint.addrs()[0], &QuicConfig::default());
        assert!(matches!(error, EndpointError::Bind { .. }), "{error:?}");

        let tcp: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        let error = bind(&tcp, &QuicConfig::default());
        assert!(matches!(error, EndpointError::Address { .. }), "{error:?}");

        let free: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
        let hasty = QuicConfig { lost_after: 1, ..QuicConfig::default() };
        assert!(matches!(bind(&free, &hasty), EndpointError::KeepAlive));
        let never = QuicConfig { keep_alive: Duration::ZERO, ..QuicConfig::default() };
        assert!(matches!(bind(&free, &never), EndpointError::KeepAlive));
        let max = QuicConfig {
            inbound_substreams: u32::MAX,
            stream_window: u32::MAX,
            ..QuicConfig::default()
        };
        assert!(matches!(bind(&free, &max), EndpointError::WindowTooLarge));
    });
}

/// Probes after so much silence, and gives up after three times that.
fn impatient(millis: u64) -> QuicConfig {
    QuicConfig { keep_alive: Duration::from_millis(millis), ..QuicConfig::default() }
}
