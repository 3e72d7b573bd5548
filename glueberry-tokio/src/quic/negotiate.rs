//! Agreeing on what a substream carries: multistream-select 1.0 on the two halves of a QUIC
//! stream, which are handed back bare afterwards.
//!
//! Nothing is lost or left over in the change from negotiation to data: multistream-select reads
//! lengths byte by byte and bodies exactly, so bytes behind the last message stay in the stream,
//! and each side has written its last message out before it reports the agreement.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::io::{AsyncRead, AsyncWrite};
use multistream_select::{
    NegotiationError, ProtocolError, Version, dialer_select_proto, listener_select_proto,
};
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use thiserror::Error;

use crate::negotiations::Negotiation;

/// A substream whose protocol both sides know.
#[derive(Debug)]
pub(crate) struct Negotiated {
    /// One of the names that were given.
    pub(crate) protocol: String,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

/// Proposes `protocols`, best first, on a substream that this side opened.
///
/// The agreement is the peer's word: data written afterwards finds it listening. An error or a
/// drop in between ends both halves.
///
/// # Errors
///
/// [`NegotiateError::Refused`] if the peer knows none of them; see the others there.
pub(crate) async fn propose(
    send: SendStream,
    recv: RecvStream,
    protocols: &[String],
) -> Result<Negotiated, NegotiateError> {
    if !protocols.iter().all(|name| is_protocol_name(name)) {
        return Err(NegotiateError::BadName);
    }
    let mut halves = Halves::new(send, recv, Bound::Proposing { left: MAX_ANSWERS });
    let agreed = dialer_select_proto(&mut halves, protocols, Version::V1).await;
    match agreed.map(|(protocol, _)| protocol) {
        Ok(protocol) => Ok(halves.agreed_on(protocol.clone())),
        // An end in place of an answer counts as a refusal there.
        Err(NegotiationError::Failed) if halves.ended => Err(NegotiateError::Ended),
        Err(error) => Err(halves.explain(error)),
    }
}

/// Answers a substream that the peer opened: the first of its proposals that is among `protocols`
/// is taken, each other one is answered `na` at once, for as long as `negotiation` allows.
///
/// A peer that proposes nothing keeps this waiting: set a deadline. An error or a drop in between
/// ends both halves.
///
/// # Errors
///
/// [`NegotiateError::Refused`] if the peer ran out of proposals; see the others there.
pub(crate) async fn respond(
    send: SendStream,
    recv: RecvStream,
    protocols: Vec<String>,
    negotiation: Negotiation,
) -> Result<Negotiated, NegotiateError> {
    let mut halves = Halves::new(send, recv, Bound::Answering(negotiation));
    let agreed = listener_select_proto(&mut halves, protocols).await;
    match agreed.map(|(protocol, _)| protocol) {
        Ok(protocol) => Ok(halves.agreed_on(protocol)),
        Err(error) => Err(halves.explain(error)),
    }
}

fn is_protocol_name(name: &str) -> bool {
    name.starts_with('/') && !name.contains('\n') && name.len() <= MAX_NAME_BYTES
}

/// Why no protocol was agreed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum NegotiateError {
    /// Nothing that one side proposed is known to the other. The connection is fine.
    #[error("no protocol in common")]
    Refused,
    /// The peer finished the substream in the middle of the negotiation.
    #[error("the peer ended the substream during the negotiation")]
    Ended,
    /// The peer reset or stopped the substream.
    #[error("the peer reset the substream during the negotiation (code {0})")]
    Reset(VarInt),
    /// The connection was lost.
    #[error("the connection was lost during the negotiation")]
    Lost(#[source] ConnectionError),
    /// The peer does not speak multistream-select.
    #[error("the peer violated multistream-select")]
    Violation(#[source] ProtocolError),
    /// The peer said more than any negotiation needs.
    #[error("the peer's negotiation has no end")]
    TooLong,
    /// A name of ours is no protocol name. Nothing of it was sent.
    #[error("a protocol name is a slash and at most {MAX_NAME_BYTES} bytes without line breaks")]
    BadName,
    /// The substream was already closed on this side.
    #[error("the substream failed")]
    Failed(#[source] io::Error),
}

/// The two halves as the one object that multistream-select wants.
struct Halves {
    send: SendStream,
    recv: RecvStream,
    bound: Bound,
    /// The peer has finished its half.
    ended: bool,
}

/// What the peer may still say.
enum Bound {
    /// Bytes that are left for answers to this side's proposals.
    Proposing {
        left: usize,
    },
    Answering(Negotiation),
}

impl Halves {
    const fn new(send: SendStream, recv: RecvStream, bound: Bound) -> Self {
        Self { send, recv, bound, ended: false }
    }

    fn agreed_on(self, protocol: String) -> Negotiated {
        Negotiated { protocol, send: self.send, recv: self.recv }
    }

    fn explain(&self, error: NegotiationError) -> NegotiateError {
        let error = match error {
            NegotiationError::Failed => return NegotiateError::Refused,
            NegotiationError::ProtocolError(ProtocolError::IoError(error)) => error,
            NegotiationError::ProtocolError(error) => return NegotiateError::Violation(error),
        };
        if self.bound.is_exceeded() {
            NegotiateError::TooLong
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            NegotiateError::Ended
        } else if error.kind() == io::ErrorKind::InvalidData {
            NegotiateError::Violation(error.into())
        } else {
            stream_failure(error)
        }
    }
}

/// Finds quinn's error in the one that it was wrapped in.
fn stream_failure(error: io::Error) -> NegotiateError {
    let error = match error.downcast::<ReadError>() {
        Ok(ReadError::Reset(code)) => return NegotiateError::Reset(code),
        Ok(ReadError::ConnectionLost(error)) => return NegotiateError::Lost(error),
        Ok(error) => return NegotiateError::Failed(error.into()),
        Err(error) => error,
    };
    match error.downcast::<WriteError>() {
        Ok(WriteError::Stopped(code)) => NegotiateError::Reset(code),
        Ok(WriteError::ConnectionLost(error)) => NegotiateError::Lost(error),
        Ok(error) => NegotiateError::Failed(error.into()),
        Err(error) => NegotiateError::Failed(error),
    }
}

impl Bound {
    fn may_read(&mut self) -> io::Result<usize> {
        match self {
            Self::Proposing { left: 0 } => Err(io::ErrorKind::InvalidData.into()),
            Self::Proposing { left } => Ok(*left),
            Self::Answering(negotiation) => negotiation.may_read(),
        }
    }

    const fn has_read(&mut self, count: usize) {
        match self {
            Self::Proposing { left } => *left = left.saturating_sub(count),
            Self::Answering(negotiation) => negotiation.has_read(count),
        }
    }

    const fn is_exceeded(&self) -> bool {
        match self {
            Self::Proposing { left } => *left == 0,
            Self::Answering(negotiation) => negotiation.is_cut_off(),
        }
    }
}

impl AsyncRead for Halves {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let len = buf.len().min(self.bound.may_read()?);
        let read = ready!(self.recv.poll_read(cx, &mut buf[..len]))?;
        self.bound.has_read(read);
        self.ended |= read == 0 && len != 0;
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Halves {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf))?;
        if let Bound::Answering(negotiation) = &mut self.bound {
            negotiation.has_written(&buf[..count]);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_close(Pin::new(&mut self.send), cx)
    }
}

const MAX_NAME_BYTES: usize = 1024;
/// One message may have 16 KiB in multistream-select; this is for all answers of a peer, which are as
/// many as this side proposes names.
const MAX_ANSWERS: usize = 64 * 1024;
