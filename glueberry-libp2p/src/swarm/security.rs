//! TLS and Noise as one choice, of which either may be switched off.

use std::future::Future;
use std::io;
use std::pin::Pin;

use futures_util::future::Either;
use futures_util::io::{AsyncRead, AsyncWrite};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, tls};

use super::answered::Answered;

/// What a TCP or relayed connection is secured with, TLS first.
#[derive(Clone)]
pub(super) struct Security {
    tls: Option<tls::Config>,
    noise: Option<noise::Config>,
}

/// A secured connection, in which a muxer is to be agreed.
pub(super) type Secured<C> = Answered<Either<tls::TlsStream<C>, noise::Output<C>>>;

type Securing<C> = Pin<Box<dyn Future<Output = io::Result<(PeerId, Secured<C>)>> + Send>>;

impl Security {
    /// Returns an error if the identity cannot be used.
    pub(super) fn new(identity: &Keypair, has_tls: bool, has_noise: bool) -> io::Result<Self> {
        let tls = has_tls.then(|| tls::Config::new(identity)).transpose();
        let noise = has_noise.then(|| noise::Config::new(identity)).transpose();
        Ok(Self { tls: tls.map_err(io::Error::other)?, noise: noise.map_err(io::Error::other)? })
    }
}

impl UpgradeInfo for Security {
    type Info = Protocol;
    type InfoIter = std::vec::IntoIter<Protocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let tls = self.tls.iter().flat_map(UpgradeInfo::protocol_info).map(Protocol::Tls);
        let noise = self.noise.iter().flat_map(UpgradeInfo::protocol_info).map(Protocol::Noise);
        tls.chain(noise).collect::<Vec<_>>().into_iter()
    }
}

/// Which of the two was agreed on, and its name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    Tls(&'static str),
    Noise(&'static str),
}

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        match self {
            Self::Tls(name) | Self::Noise(name) => name,
        }
    }
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = Securing<C>;

    fn upgrade_inbound(self, socket: C, protocol: Protocol) -> Self::Future {
        Box::pin(async move {
            match protocol {
                Protocol::Tls(name) => {
                    let (peer, stream) = chosen(self.tls)?
                        .upgrade_inbound(socket, name)
                        .await
                        .map_err(io::Error::other)?;
                    Ok((peer, Answered::connection(Either::Left(stream))))
                }
                Protocol::Noise(name) => {
                    let (peer, stream) = chosen(self.noise)?
                        .upgrade_inbound(socket, name)
                        .await
                        .map_err(io::Error::other)?;
                    Ok((peer, Answered::connection(Either::Right(stream))))
                }
            }
        })
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = Securing<C>;

    fn upgrade_outbound(self, socket: C, protocol: Protocol) -> Self::Future {
        Box::pin(async move {
            match protocol {
                Protocol::Tls(name) => {
                    let (peer, stream) = chosen(self.tls)?
                        .upgrade_outbound(socket, name)
                        .await
                        .map_err(io::Error::other)?;
                    Ok((peer, Answered::connection(Either::Left(stream))))
                }
                Protocol::Noise(name) => {
                    let (peer, stream) = chosen(self.noise)?
                        .upgrade_outbound(socket, name)
                        .await
                        .map_err(io::Error::other)?;
                    Ok((peer, Answered::connection(Either::Right(stream))))
                }
            }
        })
    }
}

/// Only what is switched on is ever proposed or accepted.
fn chosen<T>(config: Option<T>) -> io::Result<T> {
    config.ok_or_else(|| io::Error::other("a protocol was agreed on that is switched off"))
}
