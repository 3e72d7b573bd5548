//! A peer that has the keys of its connections, and sends packets that neither quinn nor RFC 9000 allows.
//! `tests/tests/drained.rs` has it, too.

use std::any::Any;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, HmacKey, KeyPair, Keys,
    PacketKey, Session,
};
use quinn::{ConnectError, EndpointConfig, TransportConfig};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError};

pub(super) struct Attacker {
    socket: UdpSocket,
    endpoint: quinn::Endpoint,
    tls: Arc<QuicClientConfig>,
    is_illegal: Arc<AtomicBool>,
}

impl Attacker {
    /// Dials with a configuration that proves an identity, and accepts any peer. In a runtime.
    pub(super) fn new(tls: QuicClientConfig) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = EndpointConfig::new(Arc::new(OneToken));
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint =
            quinn::Endpoint::new(config, None, socket.try_clone().unwrap(), runtime).unwrap();
        Self { socket, endpoint, tls: Arc::new(tls), is_illegal: Arc::default() }
    }

    pub(super) async fn dial(&self, to: SocketAddr) -> quinn::Connection {
        let crypto = Illegal { inner: self.tls.clone(), is_illegal: self.is_illegal.clone() };
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport.mtu_discovery_config(None);
        config.transport_config(Arc::new(transport));
        self.endpoint.connect_with(config, to, "l").unwrap().await.unwrap()
    }

    /// Resets all of its connections to an address.
    pub(super) fn reset(&self, to: SocketAddr) {
        let mut packet = [0x55; 60];
        packet[60 - TOKEN.len()..].copy_from_slice(&TOKEN);
        self.socket.send_to(&packet, to).unwrap();
    }

    /// Sets bits from now on that a packet must not have.
    pub(super) fn be_illegal(&self, is_illegal: bool) {
        self.is_illegal.store(is_illegal, Ordering::SeqCst);
    }
}

const TOKEN: [u8; 16] = [7; 16];

/// Makes all tokens of stateless resets the same.
struct OneToken;

impl HmacKey for OneToken {
    fn sign(&self, _: &[u8], signature: &mut [u8]) {
        signature.fill(TOKEN[0]);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, _: &[u8], _: &[u8]) -> Result<(), CryptoError> {
        Ok(())
    }
}

struct Illegal<T: ?Sized> {
    is_illegal: Arc<AtomicBool>,
    inner: T,
}

impl ClientConfig for Illegal<Arc<QuicClientConfig>> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = self.inner.clone().start_session(version, server_name, params)?;
        Ok(Box::new(Illegal { inner, is_illegal: self.is_illegal.clone() }))
    }
}

impl Illegal<Box<dyn Session>> {
    fn keys(&self, pair: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
        let local = Illegal { inner: pair.local, is_illegal: self.is_illegal.clone() };
        KeyPair { local: Box::new(local), remote: pair.remote }
    }
}

impl Session for Illegal<Box<dyn Session>> {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(id, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let Keys { header, packet } = self.inner.write_handshake(buf)?;
        Some(Keys { header, packet: self.keys(packet) })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let next = self.inner.next_1rtt_keys()?;
        Some(self.keys(next))
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

impl PacketKey for Illegal<Box<dyn PacketKey>> {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        if self.is_illegal.load(Ordering::SeqCst) && buf[0] & 0x80 == 0 {
            buf[0] |= 0x18;
        }
        self.inner.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.inner.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}
