//! The handle that an application holds.

mod book;
mod connected;
mod dial;
mod messages;
mod observe;

use std::sync::Arc;

use futures_channel::oneshot;
use glueberry_proto::{
    Address, ConnectionState, Direction, Instant, Node as CoreNode, ProtocolVersion, PublicKey,
    ReconnectPolicy, SendError, SessionInfo, StreamName,
};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use tracing::{Instrument, info_span};

pub use self::connected::ConnectedPeer;
pub(crate) use self::messages::{queue_many_on, queue_on};
use crate::address::{AddressError, AddressProblem, named_peer};
use crate::command::{ConnectCaller, CoreCall, HandshakeCommand, NodeCommand};
use crate::error::{Error, ErrorCode, Misuse};
use crate::event::BookTrouble;
use crate::inbox::{Inbox, Messages};
use crate::mailbox::{answer, lock};
use crate::session_handle::SessionHandle;
use crate::shared::Shared;

/// A running node: connects to peers by key, and exchanges named, encrypted messages with them.
///
/// This is a handle: it is cheap to clone, and its methods can be called from any thread. Cancelling any
/// of its futures is safe. When the last handle is dropped, the node shuts down, even if streams,
/// messages or events of it are still held. [`shutdown`](Self::shutdown) waits for that.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = pair().await?;
/// let mut inbox = bob.messages().expect("the first call gets them");
/// alice.send(bob.peer_id(), "chat", "hello").await?;
/// let message = inbox.recv().await.expect("it runs");
/// assert_eq!((message.peer, message.data), (alice.peer_id(), "hello".into()));
/// assert_eq!(alice.is_outbound(bob.peer_id()), Some(true));
/// alice.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

/// What all handles of a node share.
#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    key: PublicKey,
    findings: Vec<BookTrouble>,
    messages: std::sync::Mutex<Option<Messages>>,
}

impl Node {
    pub(crate) fn new(
        shared: Arc<Shared>,
        key: PublicKey,
        findings: Vec<BookTrouble>,
        inbox: Arc<Inbox>,
    ) -> Self {
        let messages = std::sync::Mutex::new(Some(Messages::new(inbox)));
        Self { inner: Arc::new(Inner { shared, key, findings, messages }) }
    }

    /// Returns a handle that does not keep the node alive.
    #[cfg(feature = "test-util")]
    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode(Arc::downgrade(&self.inner))
    }

    // ---- who and where ------------------------------------------------------------------------

    /// Returns this node's id.
    pub fn peer_id(&self) -> PeerId {
        self.inner.key.into()
    }

    /// Returns this node's key.
    pub fn public_key(&self) -> PublicKey {
        self.inner.key
    }

    /// Returns the addresses that this node listens on, with the ports that it really got: where a
    /// peer can dial it. For an unspecified address, such as 0.0.0.0, they are those that the
    /// machine's interfaces had when the node was built.
    pub fn addrs(&self) -> Vec<Multiaddr> {
        lock(&self.inner.shared.addrs).clone()
    }

    /// Returns the version of the protocol.
    pub const fn version(&self) -> ProtocolVersion {
        ProtocolVersion::CURRENT
    }

    /// Connects to a peer; ready when the handshake can begin.
    ///
    /// The peer keeps being dialled if the future is dropped; [`disconnect`](Self::disconnect)
    /// ends that.
    ///
    /// # Errors
    ///
    /// [`PeerNotFound`](ErrorCode::PeerNotFound) without an address,
    /// [`AlreadyConnected`](ErrorCode::AlreadyConnected), [`InCooldown`](ErrorCode::InCooldown),
    /// [`ConnectionFailed`](ErrorCode::ConnectionFailed) with the reason,
    /// [`HandshakeFailed`](ErrorCode::HandshakeFailed) if no protocol is common,
    /// [`LimitReached`](ErrorCode::LimitReached), [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn connect(&self, peer: PeerId) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        let span = info_span!("dial", node = %self.peer_id(), %peer);
        let cause = span.id();
        self.ask(|answer| NodeCommand::Connect(key, ConnectCaller { answer, cause }))
            .instrument(span)
            .await?
            .map_err(|error| error.of_peer(peer))
    }

    /// Ends the connection or the dial of a peer. What was queued is still sent, in the
    /// background. The peer is refused for a while, or its own reconnection would undo this.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](ErrorCode::NotConnected), [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        match self.core(move |core, now| core.disconnect(now, key)).await? {
            true => Ok(()),
            false => {
                let error = Error::because(ErrorCode::NotConnected, Misuse::NothingToEnd);
                Err(error.of_peer(peer))
            }
        }
    }

    /// Ends the attempts to reconnect to a peer, or keeps them from beginning after its cooldown.
    /// A session is not touched.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](ErrorCode::NotConnected) if there are none,
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn cancel_reconnection(&self, peer: PeerId) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        match self.core(move |core, now| core.cancel_reconnection(now, key)).await? {
            true => Ok(()),
            false => {
                let error = Error::because(ErrorCode::NotConnected, Misuse::NothingToEnd);
                Err(error.of_peer(peer))
            }
        }
    }

    /// Sets when this peer is dialled again, in place of the configured policy; `None` goes back to
    /// that.
    ///
    /// # Errors
    ///
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey),
    /// [`InvalidConfig`](ErrorCode::InvalidConfig) if the policy cannot work,
    /// [`LimitReached`](ErrorCode::LimitReached), [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn set_reconnect_policy(
        &self,
        peer: PeerId,
        policy: Option<ReconnectPolicy>,
    ) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        self.core(move |core, now| core.set_reconnect_policy(now, key, policy)).await??;
        Ok(())
    }

    /// Protects a peer from being pruned when there are too many sessions, or no longer does.
    ///
    /// # Errors
    ///
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey),
    /// [`LimitReached`](ErrorCode::LimitReached), [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn protect(&self, peer: PeerId, is_protected: bool) -> Result<(), Error> {
        let key = self.shared().key_of(peer)?;
        self.core(move |core, now| core.protect(now, key, is_protected)).await??;
        Ok(())
    }

    /// Dials every peer in the address book that is Disconnected, not banned and has an address, a
    /// few at a time. Events report the outcome.
    ///
    /// # Errors
    ///
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn autoconnect(&self) -> Result<(), Error> {
        self.core(|core, now| core.autoconnect(now)).await
    }

    /// Returns the peer's state.
    pub fn connection_state(&self, peer: PeerId) -> ConnectionState {
        self.inner.shared.views.state(&peer)
    }

    /// Returns whether this node dialled the peer, or `None` if neither side ever did.
    pub fn is_outbound(&self, peer: PeerId) -> Option<bool> {
        let direction = self.inner.shared.views.direction(&peer)?;
        Some(direction == Direction::Outbound)
    }

    // ---- handshake ----------------------------------------------------------------------------

    /// First phase: derives the keys and gets ready to receive on the named streams. `key` is
    /// what the peer has sent as its key; it must be the one that its id contains.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](ErrorCode::NotConnected), [`InvalidPublicKey`](ErrorCode::InvalidPublicKey)
    /// if it is another key, [`InvalidStreamName`](ErrorCode::InvalidStreamName),
    /// [`NoStreamsRequested`](ErrorCode::NoStreamsRequested),
    /// [`LimitReached`](ErrorCode::LimitReached), [`StreamClosed`](ErrorCode::StreamClosed) if the
    /// handshake is over.
    pub async fn prepare_streams<S: AsRef<str>>(
        &self,
        peer: PeerId,
        key: PublicKey,
        streams: &[S],
    ) -> Result<(), Error> {
        let names: Vec<StreamName> =
            streams.iter().map(|name| stream_name(name.as_ref())).collect::<Result<_, _>>()?;
        self.inner
            .shared
            .in_handshake(peer, |answer| HandshakeCommand::Prepare(key, names, answer))
            .await
    }

    /// Second phase: consents, and waits until the session is Established.
    ///
    /// In v2 that is when the peer has also confirmed its keys, which takes no call of its application.
    /// In the v1 profiles that is a local matter: they have no word for the peer's consent. Messages
    /// that are sent ahead of it wait on the peer's side, and a stream that the peer does not
    /// prepare is reported by [`Event::StreamRefused`](crate::Event::StreamRefused): at once if the
    /// peer has finished its handshake, else after half a minute.
    ///
    /// # Errors
    ///
    /// [`HandshakeNotComplete`](ErrorCode::HandshakeNotComplete) before
    /// [`prepare_streams`](Self::prepare_streams), [`NotConnected`](ErrorCode::NotConnected),
    /// [`StreamClosed`](ErrorCode::StreamClosed) if it was finalized before.
    pub async fn finalize_handshake(&self, peer: PeerId) -> Result<(), Error> {
        self.inner.shared.in_handshake(peer, HandshakeCommand::Finalize).await
    }

    /// Both phases in one: [`prepare_streams`](Self::prepare_streams), then
    /// [`finalize_handshake`](Self::finalize_handshake).
    ///
    /// # Errors
    ///
    /// Those of the two.
    pub async fn complete_handshake<S: AsRef<str>>(
        &self,
        peer: PeerId,
        key: PublicKey,
        streams: &[S],
    ) -> Result<(), Error> {
        self.prepare_streams(peer, key, streams).await?;
        self.finalize_handshake(peer).await
    }

    /// Returns what the session with a peer gives: its profile, cipher suite and what they protect.
    /// `None` until both sides have said what they offer, and without a session.
    ///
    /// An application that wants more than that [rejects](Self::reject_handshake) the handshake, or
    /// does not finalize it. It is known before a handshake message of the peer is.
    pub fn session_info(&self, peer: PeerId) -> Option<SessionInfo> {
        self.session(peer).ok()?.info()
    }

    /// Ends the session because the peer is not wanted; it is left alone for a while.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](ErrorCode::NotConnected).
    pub fn reject_handshake(&self, peer: PeerId, reason: &str) -> Result<(), Error> {
        self.session(peer)?;
        let command = HandshakeCommand::Reject(reason.to_owned());
        self.inner.shared.handshake_command(peer, command)
    }

    /// Shuts down: sends what was queued, within the drain timeout, closes all connections and
    /// waits until that is done. Afterwards all handles return
    /// [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn shutdown(&self) {
        let (answer, done) = oneshot::channel();
        if self.inner.shared.mailbox.put(NodeCommand::Shutdown(Some(answer))).is_ok() {
            // An error means that the node has stopped in another way.
            done.await.unwrap_or_default();
        }
    }

    // ---- parts --------------------------------------------------------------------------------

    /// Returns the session of a peer that is current.
    pub(crate) fn session(&self, peer: PeerId) -> Result<Arc<SessionHandle>, Error> {
        self.inner.shared.session(peer)
    }

    /// Does something with the core's node, in its task.
    pub(crate) async fn core<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut CoreNode, Instant) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.ask(|answer_to| {
            NodeCommand::Call(Box::new(move |core, now| {
                let result = what(core, now);
                Box::new(move || answer(answer_to, result))
            }))
        })
        .await
    }

    /// Changes the address book of the core's node, in its task. If that is being read again, the change
    /// is made once more in what was read.
    pub(crate) async fn change_book<T: Send + 'static>(
        &self,
        what: impl Fn(&mut CoreNode, Instant) -> T + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let what = Arc::new(what);
        let again = what.clone();
        self.ask(|answer_to| {
            let call: CoreCall = Box::new(move |core, now| {
                let result = what(core, now);
                Box::new(move || answer(answer_to, result))
            });
            NodeCommand::Change(call, Box::new(move |core, now| drop(again(core, now))))
        })
        .await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn findings(&self) -> &[BookTrouble] {
        &self.inner.findings
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> NodeCommand,
    ) -> Result<T, Error> {
        let (answer, result) = oneshot::channel();
        let stopped = || Error::new(ErrorCode::NodeStopped);
        self.inner.shared.mailbox.put(command(answer)).map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())
    }
}

/// A handle that does not keep its node alive.
#[cfg(feature = "test-util")]
#[derive(Clone, Debug)]
pub(crate) struct WeakNode(std::sync::Weak<Inner>);

#[cfg(feature = "test-util")]
impl WeakNode {
    pub(crate) fn upgrade(&self) -> Option<Node> {
        Some(Node { inner: self.0.upgrade()? })
    }
}

/// The last handle is gone.
impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.shared.mailbox.put(NodeCommand::Shutdown(None)));
    }
}

pub(crate) fn on_stream(error: SendError, peer: PeerId, stream: &str) -> Error {
    Error::from(error).of_peer(peer).on_stream(stream)
}

pub(crate) fn stream_name(name: &str) -> Result<StreamName, Error> {
    // Whether the peer's profile carries a name that only Go nodes allow is the session's to say.
    StreamName::new_go(name)
        .map_err(|error| Error::because(ErrorCode::InvalidStreamName, error).on_stream(name))
}

/// Returns an address of a peer as the core has it, if the peer can be dialled at it.
pub(crate) fn address_of(
    shared: &Shared,
    peer: PeerId,
    address: Multiaddr,
) -> Result<Address, Error> {
    let checked = match named_peer(&address) {
        Some(named) if named != peer => Err(AddressProblem::OtherPeer(named)),
        _ => crate::address::check(&address).and_then(|()| (shared.check_address)(&address)),
    };
    match checked {
        Ok(()) => Ok(Address::from(&address)),
        Err(problem) => {
            let error = AddressError { address, problem };
            Err(Error::because(ErrorCode::InvalidAddress, error).of_peer(peer))
        }
    }
}
