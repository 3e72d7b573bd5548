//! One connection of an attacker from the wire up: quinn, or TCP with Noise and yamux; no code of
//! Glueberry.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use glueberry_tokio::Multiaddr;
use glueberry_tokio::identity::{Keypair, PeerId};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{Boxed, DialOpts, PortUse, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::{noise, tcp, yamux};
use multiaddr::Protocol;
use quinn::crypto::rustls::QuicServerConfig;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::attacker::MULTISTREAM;
use super::tls;
use crate::fabric::Fabric;

/// A connection.
#[derive(Debug)]
pub(super) enum Wire {
    Quic(quinn::Connection),
    Muxed(Muxed),
}

/// A connection with yamux, which a task drives.
#[derive(Debug)]
pub(super) struct Muxed {
    opens: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    accepted: Mutex<mpsc::Receiver<SubstreamBox>>,
    is_over: watch::Receiver<bool>,
    task: AbortHandle,
}

impl Wire {
    /// Dials with a well-formed identity.
    pub(super) async fn dial(
        from: &quinn::Endpoint,
        keys: &Keypair,
        to: &Multiaddr,
        peer: PeerId,
    ) -> io::Result<Self> {
        if is_quic(to) {
            let config = tls::client(&tls::certificate(keys));
            return Ok(Self::Quic(connect(from, config, to).await?));
        }
        let mut transport = stack(keys);
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = transport.dial(to.clone(), options).map_err(io::Error::other)?;
        let (answered, muxer) = dial.await?;
        assert_eq!(answered, peer);
        Ok(Self::Muxed(Muxed::new(muxer)))
    }

    pub(super) async fn open(&self) -> io::Result<Sub> {
        match self {
            Self::Quic(connection) => {
                let (send, recv) = connection.open_bi().await?;
                Ok(Sub::Quic(send, recv))
            }
            Self::Muxed(muxed) => {
                let (answer, opened) = oneshot::channel();
                muxed.opens.send(answer).await.map_err(gone)?;
                opened.await.map(Sub::Muxed).map_err(gone)
            }
        }
    }

    /// Waits for a substream of the victim.
    pub(super) async fn accept(&self) -> io::Result<Sub> {
        match self {
            Self::Quic(connection) => {
                let (send, recv) = connection.accept_bi().await?;
                Ok(Sub::Quic(send, recv))
            }
            Self::Muxed(muxed) => {
                let accepted = muxed.accepted.lock().await.recv().await;
                accepted.map(Sub::Muxed).ok_or_else(|| gone("closed"))
            }
        }
    }

    /// Waits for a substream that the victim opens for this protocol, and returns it unanswered. All
    /// others are refused, probes among them.
    pub(super) async fn victims(&self, protocol: &str) -> io::Result<Sub> {
        loop {
            let mut sub = self.accept().await?;
            let answered = async {
                sub.hear().await?;
                sub.say(MULTISTREAM).await?;
                let name = sub.hear().await?;
                if name == protocol {
                    return io::Result::Ok(true);
                }
                sub.say("na").await?;
                Ok(false)
            };
            // One that was given up must not hold up the others.
            if let Ok(Ok(true)) = tokio::time::timeout(Duration::from_secs(1), answered).await {
                return Ok(sub);
            }
        }
    }

    /// Waits until the victim has closed it, and returns the code if there is one.
    pub(super) async fn closed(&self) -> Option<u64> {
        match self {
            Self::Quic(connection) => match connection.closed().await {
                quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into()),
                _ => None,
            },
            Self::Muxed(muxed) => {
                // An error means that the task is gone.
                drop(muxed.is_over.clone().wait_for(|is_over| *is_over).await);
                None
            }
        }
    }

    /// Closes it.
    pub(super) fn close(&self) {
        match self {
            Self::Quic(connection) => connection.close(9_u32.into(), b"enough"),
            Self::Muxed(muxed) => muxed.task.abort(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.close();
    }
}

impl Muxed {
    fn new(muxer: StreamMuxerBox) -> Self {
        let (opens, to_open) = mpsc::channel(64);
        let (accepting, accepted) = mpsc::channel(256);
        let (over, is_over) = watch::channel(false);
        let task = tokio::spawn(async move {
            drive(muxer, to_open, accepting).await;
            over.send_replace(true);
        });
        Self { opens, accepted: Mutex::new(accepted), is_over, task: task.abort_handle() }
    }
}

/// Drives a connection until it is closed.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut to_open: mpsc::Receiver<oneshot::Sender<SubstreamBox>>,
    accepting: mpsc::Sender<SubstreamBox>,
) {
    let mut wanted = VecDeque::new();
    poll_fn(|cx| {
        while let Poll::Ready(Some(answer)) = to_open.poll_recv(cx) {
            wanted.push_back(answer);
        }
        loop {
            match muxer.poll_inbound_unpin(cx) {
                // What nobody wants to see is dropped, and so reset.
                Poll::Ready(Ok(accepted)) => drop(accepting.try_send(accepted)),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        while !wanted.is_empty() {
            match muxer.poll_outbound_unpin(cx) {
                Poll::Ready(Ok(opened)) => {
                    drop(wanted.pop_front().map(|answer| answer.send(opened)));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        match muxer.poll_unpin(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    })
    .await;
}

/// Connects with a certificate that may be anything.
pub(super) async fn connect(
    from: &quinn::Endpoint,
    config: quinn::ClientConfig,
    to: &Multiaddr,
) -> io::Result<quinn::Connection> {
    let connecting = from.connect_with(config, socket(to), "l").map_err(io::Error::other)?;
    Ok(connecting.await?)
}

/// One substream.
pub(super) enum Sub {
    Quic(quinn::SendStream, quinn::RecvStream),
    Muxed(SubstreamBox),
}

impl Sub {
    /// Writes all of it.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Quic(send, _) => Ok(send.write_all(bytes).await?),
            Self::Muxed(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Reads so many bytes.
    pub(super) async fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        match self {
            Self::Quic(_, recv) => recv.read_exact(&mut bytes).await.map_err(io::Error::other)?,
            Self::Muxed(stream) => stream.read_exact(&mut bytes).await?,
        }
        Ok(bytes)
    }

    /// Reads until the victim ends its half, and returns whether it did so in order.
    pub(super) async fn ended(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            let read = match self {
                Self::Quic(_, recv) => {
                    recv.read(&mut bytes).await.map(Option::unwrap_or_default).map_err(drop)
                }
                Self::Muxed(stream) => stream.read(&mut bytes).await.map_err(drop),
            };
            match read {
                Ok(0) => return true,
                Ok(_) => {}
                Err(()) => return false,
            }
        }
    }

    /// Ends this half in order.
    pub(super) async fn finish(&mut self) {
        match self {
            Self::Quic(send, _) => drop(send.finish()),
            Self::Muxed(stream) => drop(stream.close().await),
        }
    }

    /// Breaks both halves off.
    pub(super) fn reset(self) {
        if let Self::Quic(mut send, mut recv) = self {
            drop(send.reset(9_u32.into()));
            drop(recv.stop(9_u32.into()));
        }
    }

    /// Says one message of multistream-select.
    pub(super) async fn say(&mut self, text: &str) -> io::Result<()> {
        self.write(&proposal(text)).await
    }

    /// Hears one message of multistream-select.
    pub(super) async fn hear(&mut self) -> io::Result<String> {
        let len = self.read(1).await?[0];
        let text = self.read(len.into()).await?;
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    }
}

/// Returns one message of multistream-select.
pub(super) fn proposal(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len() + 1).ok().filter(|len| *len < 128).expect("a short name");
    [&[len], text.as_bytes(), b"\n"].concat()
}

/// Where an attacker waits to be dialled.
#[derive(Debug)]
pub(super) struct Trap {
    pub(super) address: Multiaddr,
    dialled: mpsc::Receiver<Wire>,
    task: AbortHandle,
}

impl Trap {
    pub(super) async fn new(fabric: Fabric, keys: &Keypair) -> Self {
        let (sender, dialled) = mpsc::channel(16);
        // A host of libp2p in any case: a node that speaks something else does not get on with it.
        let (address, task) = match fabric.is_datagrams() {
            true => quic_trap(keys, sender),
            false => tcp_trap(keys, sender).await,
        };
        Self { address, dialled, task }
    }

    pub(super) async fn dialled(&mut self) -> Wire {
        self.dialled.recv().await.expect("it listens")
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn quic_trap(keys: &Keypair, dialled: mpsc::Sender<Wire>) -> (Multiaddr, AbortHandle) {
    let tls = libp2p::tls::make_server_config(keys).expect("a certificate");
    let crypto = QuicServerConfig::try_from(tls).expect("TLS 1.3");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let any = "127.0.0.1:0".parse().expect("an address");
    let endpoint = quinn::Endpoint::server(config, any).expect("a socket");
    let port = endpoint.local_addr().expect("bound").port();
    let task = tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            if let Ok(connection) = incoming.await {
                drop(dialled.send(Wire::Quic(connection)).await);
            }
        }
    });
    let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    (address.parse().expect("an address"), task.abort_handle())
}

async fn tcp_trap(keys: &Keypair, dialled: mpsc::Sender<Wire>) -> (Multiaddr, AbortHandle) {
    let mut transport = stack(keys);
    let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let id = libp2p::core::transport::ListenerId::next();
    transport.listen_on(id, any).expect("a socket");
    let address = loop {
        let event = poll_fn(|cx| std::pin::Pin::new(&mut transport).poll(cx)).await;
        if let TransportEvent::NewAddress { listen_addr, .. } = event {
            break listen_addr;
        }
    };
    let task = tokio::spawn(async move {
        loop {
            let event = poll_fn(|cx| std::pin::Pin::new(&mut transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                let dialled = dialled.clone();
                tokio::spawn(async move {
                    if let Ok((_, muxer)) = upgrade.await {
                        drop(dialled.send(Wire::Muxed(Muxed::new(muxer))).await);
                    }
                });
            }
        }
    });
    (address, task.abort_handle())
}

/// TCP, Noise and yamux.
fn stack(keys: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(4096);
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(keys).expect("a key for Noise"))
        .multiplex(muxer)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

/// Returns the socket's address of an address of this machine.
pub(super) fn socket(address: &Multiaddr) -> std::net::SocketAddr {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Udp(port) | Protocol::Tcp(port))) => {
            (ip, port).into()
        }
        _ => panic!("{address}"),
    }
}

fn gone(_: impl Sized) -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
