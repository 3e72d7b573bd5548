use std::{sync::Arc, time::Duration};

use quinn::{TransportConfig, VarInt};

use super::EndpointError;
use crate::quic::window::{BASE, per_substream};

/// How connections behave, on both sides.
#[derive(Debug, Clone)]
pub(crate) struct QuicConfig {
    /// How many substreams a peer may have open on a connection at once.
    pub(crate) inbound_substreams: u32,
    /// How many substreams this side opens on a connection at once. Not enforced here: what this
    /// side opens and the peer answers needs room in the connection's window too.
    pub(crate) outbound_substreams: u32,
    /// How many bytes a peer may send ahead of the reader on one substream.
    ///
    /// A connection begins with [`BASE`] for all of them together. What more it gets is charged to
    /// the account of the node, see [`Window`](crate::quic::window::Window).
    pub(crate) stream_window: u32,
    /// How many sent bytes of a connection may be unacknowledged.
    pub(crate) send_window: u64,
    /// After as much silence a connection is probed, or after a third of what makes it lost.
    pub(crate) keep_alive: Duration,
    /// After as many silent intervals it counts as lost. A dial without an answer ends no later.
    pub(crate) lost_after: u32,
}

impl Default for QuicConfig {
    /// 40 MiB at most per connection; 10 MB/s per substream where a round trip takes 50 ms; a lost
    /// peer is noticed after 15 s.
    fn default() -> Self {
        Self {
            inbound_substreams: 32,
            outbound_substreams: 32,
            stream_window: 512 * 1024,
            send_window: 8 * 1024 * 1024,
            keep_alive: Duration::from_secs(5),
            lost_after: 3,
        }
    }
}

impl QuicConfig {
    pub(super) fn transport(&self) -> Result<Arc<TransportConfig>, EndpointError> {
        // What it may grow to must be a number that QUIC can tell.
        let substreams = u64::from(self.inbound_substreams) + u64::from(self.outbound_substreams);
        substreams
            .checked_mul(per_substream(self.stream_window))
            .and_then(|window| VarInt::from_u64(window).ok())
            .ok_or(EndpointError::WindowTooLarge)?;
        let silence = self.keep_alive.checked_mul(self.lost_after).unwrap_or(Duration::ZERO);
        // A deadline before the first probe's answer would end every quiet connection.
        if silence <= self.keep_alive {
            return Err(EndpointError::KeepAlive);
        }
        // QUIC's idle time begins anew with the first probe that is sent into a silence (RFC 9000,
        // section 10.1), so the two of them make up the whole. The probe needs time for an answer.
        let keep_alive = self.keep_alive.min(silence / 3);
        let idle = (silence - keep_alive).try_into().map_err(|_| EndpointError::KeepAlive)?;

        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(self.inbound_substreams.into())
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(self.stream_window.into())
            .receive_window(BASE)
            .send_window(self.send_window)
            .keep_alive_interval(Some(keep_alive))
            .max_idle_timeout(Some(idle))
            .allow_spin(false);
        Ok(Arc::new(transport))
    }
}
