//! Raw quinn, as a program would use it that needs speed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use glueberry_tokio::Config;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::{CHUNK, TRIPS, median, runtime};

/// The transport configuration that a node has by default.
fn transport() -> Arc<TransportConfig> {
    let config = Config::default();
    let substreams = u32::try_from(2 * config.core.max_substreams).unwrap();
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(config.stream_window.into())
        .receive_window((substreams * config.stream_window).into())
        .send_window(config.send_window)
        .max_concurrent_uni_streams(0_u32.into())
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(config.keep_alive))
        .allow_spin(false);
    Arc::new(transport)
}

/// A certificate as quinn's own examples make them.
fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    (CertificateDer::from(made.cert), key.into())
}

fn roots(certificate: CertificateDer<'static>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    Arc::new(roots)
}

fn endpoint_of(mut config: ServerConfig) -> (Endpoint, SocketAddr) {
    config.transport_config(transport());
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    (endpoint, address)
}

/// Configured as in quinn's own examples. The suites and their order are those of rustls.
pub(crate) fn server() -> (Endpoint, SocketAddr, CertificateDer<'static>) {
    let (certificate, key) = certificate();
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key).unwrap();
    let (endpoint, address) = endpoint_of(config);
    (endpoint, address, certificate)
}

pub(crate) fn client(certificate: CertificateDer<'static>) -> (Endpoint, ClientConfig) {
    let mut config = ClientConfig::with_root_certificates(roots(certificate)).unwrap();
    config.transport_config(transport());
    (Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap(), config)
}

/// A server that asks its clients for a certificate, and a client that has one.
fn mutual() -> (Endpoint, SocketAddr, Endpoint, ClientConfig) {
    let (certificate, key) = certificate();
    let roots = roots(certificate.clone());
    let verifier = WebPkiClientVerifier::builder(roots.clone()).build().unwrap();
    let tls = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.clone()], key.clone_key())
        .unwrap();
    let tls = QuicServerConfig::try_from(tls).unwrap();
    let (server, address) = endpoint_of(ServerConfig::with_crypto(Arc::new(tls)));
    let tls = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(transport());
    (server, address, Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap(), config)
}

async fn dial(
    address: SocketAddr,
    certificate: CertificateDer<'static>,
) -> (Endpoint, Connection, SendStream, RecvStream) {
    let (endpoint, config) = client(certificate);
    let connection = endpoint.connect_with(config, address, "localhost").unwrap().await.unwrap();
    let (send, recv) = connection.open_bi().await.unwrap();
    (endpoint, connection, send, recv)
}

pub(crate) fn rate(size: usize, time: Duration) -> f64 {
    let (ready, address) = mpsc::sync_channel(1);
    let receiver = std::thread::spawn(move || {
        runtime().block_on(async {
            let (endpoint, address, certificate) = server();
            ready.send((address, certificate)).unwrap();
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let (mut send, mut recv) = connection.accept_bi().await.unwrap();
            let (mut chunks, mut total) = ([const { Bytes::new() }; 32], 0);
            while let Some(count) = recv.read_chunks(&mut chunks).await.unwrap() {
                total += chunks.iter().take(count).map(Bytes::len).sum::<usize>();
            }
            send.write_all(&total.to_be_bytes()).await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
        });
    });
    let (address, certificate) = address.recv().unwrap();
    let rate = runtime().block_on(async {
        let (endpoint, connection, mut send, mut recv) = dial(address, certificate).await;
        let frames = frames(size);
        let start = Instant::now();
        let mut written = 0;
        while start.elapsed() < time {
            for piece in 0..frames.len().div_ceil(CHUNK) {
                let end = frames.len().min((piece + 1) * CHUNK);
                send.write_chunk(frames.slice(piece * CHUNK..end)).await.unwrap();
            }
            written += frames.len();
        }
        send.finish().unwrap();
        let total = recv.read_to_end(8).await.unwrap();
        let elapsed = start.elapsed();
        assert_eq!(total, written.to_be_bytes());
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
        let payload = written / (size + 4) * size;
        payload as f64 / elapsed.as_secs_f64() / 1e6
    });
    receiver.join().unwrap();
    rate
}

/// At least one chunk of whole frames.
fn frames(size: usize) -> Bytes {
    let mut frames = BytesMut::new();
    for _ in 0..(CHUNK / (size + 4)).max(1) {
        frames.put_u32(u32::try_from(size).unwrap());
        frames.put_bytes(7, size);
    }
    frames.freeze()
}

/// As in quinn's own examples, where only the server has a certificate.
pub(crate) async fn connect() -> f64 {
    let (server, address, certificate) = server();
    let (client, config) = client(certificate);
    handshake(&server, address, &client, config).await
}

/// With a certificate of each side, which a peer that is known by its key needs.
pub(crate) async fn connect_mutually() -> f64 {
    let (server, address, client, config) = mutual();
    handshake(&server, address, &client, config).await
}

async fn handshake(
    server: &Endpoint,
    address: SocketAddr,
    client: &Endpoint,
    config: ClientConfig,
) -> f64 {
    let start = Instant::now();
    let dialling =
        async { client.connect_with(config, address, "localhost").unwrap().await.unwrap() };
    let accepting = async { server.accept().await.unwrap().await.unwrap() };
    let _both = tokio::join!(dialling, accepting);
    start.elapsed().as_secs_f64() * 1e6
}

pub(crate) async fn round_trip(size: usize) -> f64 {
    let (server, address, certificate) = server();
    let echo = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = connection.accept_bi().await.unwrap();
        let mut message = vec![0; size];
        while recv.read_exact(&mut message).await.is_ok() {
            send.write_all(&message).await.unwrap();
        }
    });
    let (_endpoint, _connection, mut send, mut recv) = dial(address, certificate).await;
    let mut message = vec![0; size];
    let mut times = Vec::new();
    for _ in 0..TRIPS {
        let start = Instant::now();
        send.write_all(&message).await.unwrap();
        recv.read_exact(&mut message).await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    drop((send, recv));
    echo.abort();
    median(&mut times[TRIPS / 10..])
}
