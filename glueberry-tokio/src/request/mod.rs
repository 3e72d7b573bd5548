//! Requests and responses on a named stream.
//!
//! ```text
//! request ─► a place of the peer ─► send queue ═══► dispatcher ─► recv ─► application
//!    ▲         (max_in_flight)                      (max_served,             │
//!    └──────── dispatcher ◄═══════ send queue ◄──────── max_waiting) ◄─ respond
//! ```
//!
//! One task per stream, the dispatcher, receives all frames of all peers. It waits for no reader: a
//! request for which there is no room is answered as [`Busy`](RequestError::Busy), so responses
//! never wait behind requests.

mod client;
mod dispatcher;
mod owed;
mod server;
mod table;
mod wire;

use std::fmt;
use std::sync::Arc;

use glueberry_proto::StreamName;
use thiserror::Error;

pub use self::client::Requester;
use self::dispatcher::Dispatcher;
pub use self::server::{IncomingRequests, Request};
use self::table::Table;
use crate::entropy::random;
use crate::error::{Error, ErrorCode, Misuse};
use crate::inbox::{Inbox, InboxReader};
use crate::node::{Node, stream_name};
use crate::shared::Shared;

/// The limits of [`Node::requests`].
///
/// ```
/// let mut limits = glueberry_tokio::RequestLimits::default();
/// assert_eq!(limits.max_in_flight, 64);
/// limits.max_waiting_bytes = 1024 * 1024;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestLimits {
    /// Requests to one peer that wait for their response at one time; further ones wait here. 64.
    pub max_in_flight: usize,
    /// Requests of one peer that the application has not answered or dropped, also those that it need not
    /// answer any more; further ones are answered as [`Busy`](RequestError::Busy). 64: not less than the
    /// peers' `max_in_flight`.
    pub max_served: usize,
    /// Bytes of all peers' requests that the application has not taken. 16 MiB. A single request
    /// may be larger.
    pub max_waiting_bytes: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { max_in_flight: 64, max_served: 64, max_waiting_bytes: 16 * 1024 * 1024 }
    }
}

/// Why a request has no response.
///
/// `{:?}`, which is what a `main` that returns it prints, is the text of `{}`.
#[derive(Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request was not sent.
    #[error("request was not sent: {0:#}")]
    NotSent(#[source] Error),
    /// No response came in time. The peer may have carried out the request.
    #[error("no response in time")]
    TimedOut,
    /// The session ended before the response came, or the node has stopped. The peer may have carried
    /// out the request.
    #[error("the session ended before the response")]
    SessionEnded,
    /// The peer has answered with an error; the text is what its application says.
    #[error("the peer's application failed: {0}")]
    Failed(String),
    /// The peer has too many requests to answer, and has not looked at this one.
    #[error("the peer is busy")]
    Busy,
    /// The peer's application has dropped the request.
    #[error("the peer's application gave no answer")]
    Unanswered,
}

impl fmt::Debug for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RequestError {
    /// Returns whether the peer has certainly not carried out the request, so that it may be sent
    /// again whatever it does.
    pub const fn is_untouched(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Busy)
    }
}

impl Node {
    /// Takes over a stream of all peers for requests and responses, in both directions: the first
    /// value sends requests, the second receives those of peers. When both and all copies of them are
    /// dropped, the stream is free again.
    ///
    /// Both sides must do so with the stream. It must be among those that the session has; a
    /// [`StreamHandle`](crate::StreamHandle) of the same stream goes first.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use glueberry_tokio::RequestLimits;
    /// use std::time::Duration;
    ///
    /// let (alice, bob) = pair().await?;
    /// let (requester, _) = alice.requests("chat", RequestLimits::default())?;
    /// let (_, mut incoming) = bob.requests("chat", RequestLimits::default())?;
    /// tokio::spawn(async move {
    ///     while let Some(request) = incoming.recv().await {
    ///         let response = request.data.to_ascii_uppercase();
    ///         request.respond(response).await.ok();
    ///     }
    /// });
    /// let response = requester.request(bob.peer_id(), "hello", Duration::from_secs(10)).await?;
    /// assert_eq!(response, "HELLO");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidStreamName`](ErrorCode::InvalidStreamName),
    /// [`StreamTaken`](ErrorCode::StreamTaken) if it was taken over before,
    /// [`InvalidConfig`](ErrorCode::InvalidConfig) if a limit is zero.
    pub fn requests(
        &self,
        stream: &str,
        limits: RequestLimits,
    ) -> Result<(Requester, IncomingRequests), Error> {
        let name = stream_name(stream)?;
        if limits.max_in_flight == 0 || limits.max_served == 0 {
            return Err(Error::because(ErrorCode::InvalidConfig, Misuse::ZeroLimit));
        }
        let shared = self.shared();
        let inbox = Inbox::new(shared.message_buffer);
        let events = self.events();
        if !shared.readers.claim_all(name.clone(), inbox.clone()) {
            let error = Error::because(ErrorCode::StreamTaken, Misuse::StreamTaken);
            return Err(error.on_stream(stream));
        }
        let table = Table::new(limits, random(&*shared.runtime));
        let core = Arc::new(Core { shared: shared.clone(), stream: name, table });
        let dispatcher = Dispatcher::new(core.clone(), events, InboxReader::new(inbox));
        shared.spawn(dispatcher.run());
        let owner = Arc::new(Owner(core));
        Ok((Requester::new(owner.clone()), IncomingRequests::new(owner)))
    }
}

/// What handles and the dispatcher share.
#[derive(Debug)]
struct Core {
    shared: Arc<Shared>,
    stream: StreamName,
    table: Table,
}

/// What handles share; when the last is gone, the dispatcher ends.
#[derive(Debug)]
struct Owner(Arc<Core>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.shared.readers.release_all(&self.0.stream);
        self.0.table.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_that_returns_the_error_prints_a_sentence() {
        assert_eq!(format!("{:?}", RequestError::TimedOut), "no response in time");
    }
}
