//! Which protocols a substream is negotiated on.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use glueberry_proto::ProtocolId;
use libp2p::StreamProtocol;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::Stream;

/// Protocols to propose, or to accept; yields the substream and which it was.
#[derive(Clone, Debug)]
pub struct Proposal {
    protocols: Arc<[StreamProtocol]>,
}

impl Proposal {
    pub(crate) fn new<'a>(protocols: impl IntoIterator<Item = &'a ProtocolId>) -> Self {
        let names = protocols.into_iter().map(ToString::to_string);
        // Every id begins with a slash, which is all that libp2p asks of it.
        Self {
            protocols: names.filter_map(|name| StreamProtocol::try_from_owned(name).ok()).collect(),
        }
    }
}

impl UpgradeInfo for Proposal {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.protocols.iter().cloned().collect::<Vec<_>>().into_iter()
    }
}

impl InboundUpgrade<Stream> for Proposal {
    type Output = Negotiated;
    type Error = Infallible;
    type Future = Ready<Result<Negotiated, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok(Negotiated { stream, protocol: ProtocolId::parse(protocol.as_ref()).ok() }))
    }
}

impl OutboundUpgrade<Stream> for Proposal {
    type Output = Negotiated;
    type Error = Infallible;
    type Future = Ready<Result<Negotiated, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok(Negotiated { stream, protocol: ProtocolId::parse(protocol.as_ref()).ok() }))
    }
}

/// A substream and what was agreed for it.
#[derive(Debug)]
pub struct Negotiated {
    pub(crate) stream: Stream,
    pub(crate) protocol: Option<ProtocolId>,
}
