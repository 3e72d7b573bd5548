//! A connection of yamux, frame by frame.

use std::io;

use futures_util::io::{ReadHalf, WriteHalf};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use glueberry_tokio::identity::Keypair;
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::core::{Endpoint, Transport};
use libp2p::{noise, tcp};

use super::attacker::MULTISTREAM;
use super::stage::Stage;
use super::wire::proposal;

type Secured = noise::Output<tcp::tokio::TcpStream>;

/// A connection that is secured by Noise, and on which yamux is agreed.
pub(super) struct Frames {
    reader: ReadHalf<Secured>,
    writer: WriteHalf<Secured>,
}

/// What a frame carries.
pub(super) const DATA: u8 = 0;
pub(super) const WINDOW: u8 = 1;
pub(super) const PING: u8 = 2;
pub(super) const GO_AWAY: u8 = 3;
/// Flags.
pub(super) const OPENS: u16 = 1;
pub(super) const ANSWERS: u16 = 2;
pub(super) const RESETS: u16 = 8;

impl Frames {
    pub(super) async fn dial(stage: &Stage) -> io::Result<Self> {
        let mut transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
        let to = stage.node().addrs()[0].clone();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = transport.dial(to, options).map_err(io::Error::other)?;
        let mut connection = dial.await?;
        agree(&mut connection, "/noise").await?;
        let keys = Keypair::generate_ed25519();
        let noise = noise::Config::new(&keys).map_err(io::Error::other)?;
        let secured = noise.upgrade_outbound(connection, "/noise").await;
        let (_, mut secured) = secured.map_err(io::Error::other)?;
        agree(&mut secured, "/yamux/1.0.0").await?;
        let (reader, writer) = secured.split();
        Ok(Self { reader, writer })
    }

    /// Writes a frame with a body.
    pub(super) async fn data(&mut self, flags: u16, substream: u32, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len()).expect("short");
        let frame = [&header(DATA, flags, substream, len)[..], body].concat();
        self.writer.write_all(&frame).await
    }

    /// Writes a frame without one.
    pub(super) async fn bare(&mut self, kind: u8, flags: u16, to: u32, len: u32) -> io::Result<()> {
        self.writer.write_all(&header(kind, flags, to, len)).await
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.flush().await
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().await
    }

    /// Waits for a frame of this kind, and returns the last number in its header.
    pub(super) async fn until(&mut self, kind: u8, flags: u16) -> io::Result<u32> {
        loop {
            let mut header = [0; 12];
            self.reader.read_exact(&mut header).await?;
            let [_, is, f0, f1, _, _, _, _, l0, l1, l2, l3] = header;
            let len = u32::from_be_bytes([l0, l1, l2, l3]);
            if is == DATA {
                let mut body = vec![0; usize::try_from(len).expect("as many bits")];
                self.reader.read_exact(&mut body).await?;
            }
            if is == kind && u16::from_be_bytes([f0, f1]) == flags {
                return Ok(len);
            }
        }
    }

    /// Waits until the victim has closed it.
    pub(super) async fn closed(&mut self) {
        let mut bytes = [0; 4096];
        while self.reader.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    }
}

/// Returns the header of a frame.
pub(super) fn header(kind: u8, flags: u16, substream: u32, len: u32) -> [u8; 12] {
    let mut header = [0; 12];
    header[1] = kind;
    header[2..4].copy_from_slice(&flags.to_be_bytes());
    header[4..8].copy_from_slice(&substream.to_be_bytes());
    header[8..].copy_from_slice(&len.to_be_bytes());
    header
}

/// Agrees on a protocol.
async fn agree<C>(connection: &mut C, protocol: &str) -> io::Result<()>
where
    C: futures_util::AsyncRead + futures_util::AsyncWrite + Unpin,
{
    let said = [proposal(MULTISTREAM), proposal(protocol)].concat();
    connection.write_all(&said).await?;
    connection.flush().await?;
    let mut heard = vec![0; said.len()];
    connection.read_exact(&mut heard).await?;
    assert_eq!(heard, said);
    Ok(())
}
