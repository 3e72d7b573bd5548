//! The keys of a connection's packets. They open nothing that QUIC forbids.
//!
//! quinn-proto up to 0.11.19 takes a packet that is authentic and forbidden for a reason to close the
//! connection even if the packet before it was a stateless reset. Then the connection is forgotten
//! twice, and what has its place by then is cut off: another peer's connection, or the process by
//! a panic ("invalid key"). So such a packet does not open here, and is dropped. A peer that sends
//! one has broken QUIC (RFC 9000, sections 17.2 and 17.3.1; RFC 9001, section 6.2): it loses what was
//! in it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::BytesMut;
use quinn::ConnectError;
use quinn::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey,
    ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError};

/// A configuration of TLS whose sessions have keys of this module.
pub(super) struct Strict<T>(pub(super) Arc<T>);

impl<T: ClientConfig + 'static> ClientConfig for Strict<T> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = self.0.clone().start_session(version, server_name, params)?;
        Ok(Box::new(StrictSession::new(session)))
    }
}

impl<T: ServerConfig + 'static> ServerConfig for Strict<T> {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        // There is no connection yet.
        self.0.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Box::new(StrictSession::new(self.0.clone().start_session(version, params)))
    }
}

struct StrictSession {
    session: Box<dyn Session>,
    /// How often the keys were updated.
    generation: u64,
    updates: Arc<Updates>,
}

/// What decides whether the peer may use new keys.
#[derive(Default)]
struct Updates {
    /// The newest generation of keys that the peer has used.
    newest: AtomicU64,
    /// The greatest number of the peer's packets.
    largest: AtomicU64,
    /// The peer has used new keys, and nothing was sent since.
    is_unanswered: AtomicBool,
}

impl StrictSession {
    fn new(session: Box<dyn Session>) -> Self {
        Self { session, generation: 0, updates: Arc::default() }
    }

    fn strict(&self, keys: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
        let strict = |key| -> Box<dyn PacketKey> {
            let (generation, updates) = (self.generation, self.updates.clone());
            Box::new(StrictKey { key, generation, updates })
        };
        KeyPair { local: strict(keys.local), remote: strict(keys.remote) }
    }
}

impl Session for StrictSession {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        let Keys { header, packet } = self.session.initial_keys(id, side);
        Keys { header, packet: self.strict(packet) }
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        // There is no 0-RTT.
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.session.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let Keys { header, packet } = self.session.write_handshake(buf)?;
        Some(Keys { header, packet: self.strict(packet) })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let next = self.session.next_1rtt_keys()?;
        self.generation += 1;
        Some(self.strict(next))
    }

    fn is_valid_retry(&self, id: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(id, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

struct StrictKey {
    key: Box<dyn PacketKey>,
    generation: u64,
    updates: Arc<Updates>,
}

impl PacketKey for StrictKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.updates.is_unanswered.store(false, Ordering::Relaxed);
        self.key.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.key.decrypt(packet, header, payload)?;
        let first = header.first().copied().unwrap_or_default();
        let is_legal = match first & LONG_HEADER {
            0 => first & RESERVED_SHORT == 0 && self.updates.permit(self.generation, packet),
            _ => first & RESERVED_LONG == 0,
        };
        if is_legal { Ok(()) } else { Err(CryptoError) }
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}

impl Updates {
    /// Takes note of an authentic packet, unless its keys are newer than they may be: new ones are for
    /// a packet behind all others, and not for one before this side could acknowledge the last ones.
    ///
    /// A connection has a lock, so no two packets are looked at in one moment.
    fn permit(&self, generation: u64, packet: u64) -> bool {
        if generation > self.newest.load(Ordering::Relaxed) {
            let is_late = packet <= self.largest.load(Ordering::Relaxed);
            if is_late || self.is_unanswered.load(Ordering::Relaxed) {
                return false;
            }
            self.newest.store(generation, Ordering::Relaxed);
            self.is_unanswered.store(true, Ordering::Relaxed);
        }
        self.largest.fetch_max(packet, Ordering::Relaxed);
        true
    }
}

const LONG_HEADER: u8 = 0x80;
const RESERVED_LONG: u8 = 0x0c;
const RESERVED_SHORT: u8 = 0x18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_are_for_a_later_packet_and_not_before_an_answer() {
        let updates = Updates::default();
        assert!(!updates.permit(1, 0), "quinn takes a first packet of new keys for a late one");
        assert!(updates.permit(0, 5));
        assert!(!updates.permit(1, 5) && !updates.permit(1, 4));
        assert!(updates.permit(1, 6));
        assert!(updates.permit(0, 3), "late, with its own keys");
        assert!(updates.permit(1, 7));
        assert!(!updates.permit(2, 8), "nothing was sent since the last update");
        updates.is_unanswered.store(false, Ordering::Relaxed);
        assert!(updates.permit(2, 8));
    }
}
