//! Raw quinn, as a program would use it that needs speed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use glueberry_tokio::Config;
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

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

/// Keys and certificates as quinn's own examples make them. The suites and their order are those of
/// rustls.
fn server() -> (Endpoint, SocketAddr, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).unwrap();
    config.transport_config(transport());
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    (endpoint, address, certificate)
}

fn client(certificate: CertificateDer<'static>) -> (Endpoint, ClientConfig) {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    config.transport_config(transport());
    (Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap(), config)
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

pub(crate) async fn connect() -> f64 {
    let (server, address, certificate) = server();
    let (endpoint, config) = client(certificate);
    let start = Instant::now();
    let dialling =
        async { endpoint.connect_with(config, address, "localhost").unwrap().await.unwrap() };
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
