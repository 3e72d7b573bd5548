//! The commands of the application: those of the node, and those of a peer's session.

use alloc::collections::BTreeMap;

use bytes::Bytes;

use super::{Endpoint, Transport};
use crate::address::Address;
use crate::book::{Book, Entry, Revision};
use crate::config::ReconnectPolicy;
use crate::crypto::PublicKey;
use crate::error::{ConnectError, HandshakeError, PeerError, SendError};
use crate::prelude::*;
use crate::session::Session;
use crate::time::Instant;
use crate::wall::WallTime;
use crate::wire::StreamName;

impl<T: Transport> Endpoint<T> {
    // ---- the session with a peer --------------------------------------------------------------

    /// Queues a message on a stream to a peer, see [`Session::send`]. To have it again if this fails,
    /// give a clone, which copies no bytes.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing of the message is then kept. Without a session it is
    /// [`SendError::NotEstablished`].
    pub fn send(
        &mut self,
        now: Instant,
        peer: PublicKey,
        stream: &StreamName,
        message: Bytes,
    ) -> Result<(), SendError> {
        self.session(now, peer, |session, now| session.send(now, stream, message))
            .unwrap_or(Err(SendError::NotEstablished))
    }

    /// Sends a handshake message, see [`Session::send_handshake`].
    ///
    /// Without [`greeting`](Self::greeting) the handshake is the application's. It begins when the
    /// peer is [Connected](crate::ConnectionState::Connected), on both sides and with either, and must be
    /// over within [`handshake_timeout`](crate::Config::handshake_timeout). This one proves to each side
    /// that the other has prepared, before it finalizes:
    ///
    /// ```
    /// use glueberry_proto::endpoint::{Endpoint, Output, Write};
    /// use glueberry_proto::*;
    ///
    /// /// Takes a step of the handshake.
    /// fn step(end: &mut Endpoint, now: Instant, output: Output<Write>) -> Result<(), Box<dyn std::error::Error>> {
    ///     match output {
    ///         Output::State(event) if event.state == ConnectionState::Connected => {
    ///             end.send_handshake(now, event.peer, "hello".into())?;
    ///         }
    ///         Output::Handshake { peer, message } if message == "hello" => {
    ///             // An application that exchanges keys gives the one that it was told.
    ///             end.prepare_streams(now, peer, peer, &[StreamName::new("chat")?])?;
    ///             end.send_handshake(now, peer, "prepared".into())?;
    ///         }
    ///         Output::Handshake { peer, message } if message == "prepared" => {
    ///             // A peer that says so too early is none to talk to.
    ///             if end.finalize_handshake(now, peer).is_err() {
    ///                 end.reject_handshake(now, peer, "out of order");
    ///             }
    ///         }
    ///         Output::Handshake { peer, .. } => end.reject_handshake(now, peer, "not understood"),
    ///         _ => {}
    ///     }
    ///     Ok(())
    /// }
    /// # let new = |secret: u8| {
    /// #     let (identity, seed) = (Identity::from_seed(&[secret; 32]), Seed::from_bytes([secret; 32]));
    /// #     Endpoint::new(Instant::ZERO, identity, Config::default(), seed)
    /// # };
    /// # let (mut a, mut b) = (new(1)?, new(2)?);
    /// # let (now, a_key, b_key) = (Instant::ZERO, a.node().public_key(), b.node().public_key());
    /// # a.add_peer(now, b_key, &[Address::new("queue")])?;
    /// # a.connect(now, b_key)?;
    /// # let mut ids = None;
    /// # for _ in 0..20 {
    /// #     loop {
    /// #         match a.poll_output(now) {
    /// #             Output::Dial { connection, .. } => {
    /// #                 a.handle_connected(now, connection, b_key);
    /// #                 ids = Some((connection, b.handle_accepted(now, a_key)));
    /// #             }
    /// #             Output::Transport(Write { connection, bytes }) => {
    /// #                 b.handle_bytes(now, ids.unwrap().1, &bytes);
    /// #                 a.handle_written(now, connection);
    /// #             }
    /// #             Output::Timeout(_) => break,
    /// #             output => step(&mut a, now, output)?,
    /// #         }
    /// #     }
    /// #     loop {
    /// #         match b.poll_output(now) {
    /// #             Output::Transport(Write { connection, bytes }) => {
    /// #                 a.handle_bytes(now, ids.unwrap().0, &bytes);
    /// #                 b.handle_written(now, connection);
    /// #             }
    /// #             Output::Timeout(_) => break,
    /// #             output => step(&mut b, now, output)?,
    /// #         }
    /// #     }
    /// # }
    /// # assert_eq!(a.node().state(b_key), ConnectionState::Established);
    /// # assert_eq!(b.node().state(a_key), ConnectionState::Established);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing of the message is then kept.
    pub fn send_handshake(
        &mut self,
        now: Instant,
        peer: PublicKey,
        message: Bytes,
    ) -> Result<(), SendError> {
        self.session(now, peer, |session, now| session.send_handshake(now, message))
            .unwrap_or(Err(SendError::NotEstablished))
    }

    /// Checks `key` and gets ready to receive, see [`Session::prepare_streams`].
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`]; the session is then as it was.
    pub fn prepare_streams(
        &mut self,
        now: Instant,
        peer: PublicKey,
        key: PublicKey,
        names: &[StreamName],
    ) -> Result<(), HandshakeError> {
        self.session(now, peer, |session, now| session.prepare_streams(now, key, names))
            .unwrap_or(Err(HandshakeError::NotConnected))
    }

    /// Consents to the session, see [`Session::finalize_handshake`].
    ///
    /// # Errors
    ///
    /// See [`HandshakeError`]; the session is then as it was.
    pub fn finalize_handshake(
        &mut self,
        now: Instant,
        peer: PublicKey,
    ) -> Result<(), HandshakeError> {
        self.session(now, peer, Session::finalize_handshake)
            .unwrap_or(Err(HandshakeError::NotConnected))
    }

    /// Ends the session because the application does not want this peer, see
    /// [`Session::reject_handshake`].
    pub fn reject_handshake(&mut self, now: Instant, peer: PublicKey, reason: &str) {
        self.session(now, peer, |session, now| session.reject_handshake(now, reason));
    }

    /// Returns how many messages, and bytes of them, wait on a stream to a peer, see
    /// [`Session::queued`].
    pub fn queued(&self, peer: PublicKey, stream: &StreamName) -> (usize, usize) {
        let id = self.node.session_of(peer).and_then(|id| self.sessions.get(&id));
        let session = id.and_then(|id| self.connections.get(id)?.session.as_ref());
        session.map_or((0, 0), |session| session.queued(stream))
    }

    // ---- the node -----------------------------------------------------------------------------

    /// Dials a peer: [`Node::connect`](crate::Node::connect).
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; the node is then as it was.
    pub fn connect(&mut self, now: Instant, peer: PublicKey) -> Result<(), ConnectError> {
        self.command(now, |node, now| node.connect(now, peer))
    }

    /// Dials every peer of the book that may be dialled: [`Node::autoconnect`](crate::Node::autoconnect).
    pub fn autoconnect(&mut self, now: Instant) {
        self.command(now, |node, now| node.autoconnect(now))
    }

    /// Ends whatever there is with a peer, and returns whether there was anything: [`Node::disconnect`](crate::Node::disconnect).
    pub fn disconnect(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.command(now, |node, now| node.disconnect(now, peer))
    }

    /// Ends the attempts to reconnect to a peer, and returns whether there were any: [`Node::cancel_reconnection`](crate::Node::cancel_reconnection).
    pub fn cancel_reconnection(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.command(now, |node, now| node.cancel_reconnection(now, peer))
    }

    /// Sets when this peer is dialled again: [`Node::set_reconnect_policy`](crate::Node::set_reconnect_policy).
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn set_reconnect_policy(
        &mut self,
        now: Instant,
        peer: PublicKey,
        policy: Option<ReconnectPolicy>,
    ) -> Result<(), PeerError> {
        self.command(now, |node, now| node.set_reconnect_policy(now, peer, policy))
    }

    /// Protects a peer from being pruned, or no longer does: [`Node::protect`](crate::Node::protect).
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn protect(
        &mut self,
        now: Instant,
        peer: PublicKey,
        is_protected: bool,
    ) -> Result<(), PeerError> {
        self.command(now, |node, now| node.protect(now, peer, is_protected))
    }

    /// Ends everything in order and admits nothing more, until [`is_idle`](Self::is_idle): [`Node::shutdown`](crate::Node::shutdown).
    pub fn shutdown(&mut self, now: Instant) {
        self.give_up_unknown();
        self.command(now, |node, now| node.shutdown(now))
    }

    /// Sets the calendar time: [`Node::set_wall_time`](crate::Node::set_wall_time).
    pub fn set_wall_time(&mut self, now: Instant, wall: WallTime) {
        self.command(now, |node, now| node.set_wall_time(now, wall))
    }

    /// Replaces the address book: [`Node::load_book`](crate::Node::load_book).
    pub fn load_book(&mut self, now: Instant, book: Book) {
        self.command(now, |node, now| node.load_book(now, book))
    }

    /// Learns addresses of a peer, or replaces those that are known: [`Node::add_peer`](crate::Node::add_peer).
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn add_peer(
        &mut self,
        now: Instant,
        peer: PublicKey,
        addresses: &[Address],
    ) -> Result<(), PeerError> {
        self.command(now, |node, now| node.add_peer(now, peer, addresses))
    }

    /// Learns addresses and metadata of a peer: [`Node::add_peer_with_metadata`](crate::Node::add_peer_with_metadata).
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn add_peer_with_metadata(
        &mut self,
        now: Instant,
        peer: PublicKey,
        addresses: &[Address],
        metadata: Option<BTreeMap<String, String>>,
    ) -> Result<(), PeerError> {
        self.command(now, |node, now| node.add_peer_with_metadata(now, peer, addresses, metadata))
    }

    /// Forgets where a peer can be reached, and returns what was known: [`Node::remove_peer`](crate::Node::remove_peer).
    pub fn remove_peer(&mut self, now: Instant, peer: PublicKey) -> Option<Entry> {
        self.command(now, |node, now| node.remove_peer(now, peer))
    }

    /// Sets metadata of a peer: [`Node::update_metadata`](crate::Node::update_metadata).
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn update_metadata(
        &mut self,
        now: Instant,
        peer: PublicKey,
        changes: BTreeMap<String, String>,
    ) -> Result<(), PeerError> {
        self.command(now, |node, now| node.update_metadata(now, peer, changes))
    }

    /// Bans a peer, and cuts it off at once. Returns the peer whose ban was lifted for it, if there
    /// were too many: [`Node::blacklist`](crate::Node::blacklist).
    ///
    /// # Errors
    ///
    /// See [`PeerError`]; the node is then as it was.
    pub fn blacklist(
        &mut self,
        now: Instant,
        peer: PublicKey,
        until: Option<WallTime>,
    ) -> Result<Option<PublicKey>, PeerError> {
        self.command(now, |node, now| node.blacklist(now, peer, until))
    }

    /// Lifts a ban, and returns whether there was one: [`Node::unblacklist`](crate::Node::unblacklist).
    pub fn unblacklist(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.command(now, |node, now| node.unblacklist(now, peer))
    }

    /// No longer holds a peer to v2, which it has spoken, and returns whether it was held:
    /// [`Node::clear_pin`](crate::Node::clear_pin).
    pub fn clear_pin(&mut self, now: Instant, peer: PublicKey) -> bool {
        self.command(now, |node, now| node.clear_pin(now, peer))
    }

    /// Has the book stored now, if there is anything to store: [`Node::flush_book`](crate::Node::flush_book).
    pub fn flush_book(&mut self, now: Instant) {
        self.command(now, |node, now| node.flush_book(now))
    }

    /// Takes note that the book was stored as it was at this revision: [`Node::handle_book_saved`](crate::Node::handle_book_saved).
    pub fn handle_book_saved(&mut self, now: Instant, revision: Revision) {
        self.command(now, |node, now| node.handle_book_saved(now, revision))
    }

    /// Takes note that the book could not be stored: [`Node::handle_book_not_saved`](crate::Node::handle_book_not_saved).
    pub fn handle_book_not_saved(&mut self, now: Instant) {
        self.command(now, |node, now| node.handle_book_not_saved(now))
    }

    // ---- parts --------------------------------------------------------------------------------

    fn command<R>(
        &mut self,
        now: Instant,
        command: impl FnOnce(&mut super::Node, Instant) -> R,
    ) -> R {
        self.pass(now);
        let result = command(&mut self.node, self.now);
        self.carry();
        result
    }

    /// Gives a command to the current session of a peer, if it has one.
    fn session<R>(
        &mut self,
        now: Instant,
        peer: PublicKey,
        command: impl FnOnce(&mut Session, Instant) -> R,
    ) -> Option<R> {
        self.pass(now);
        let id = *self.sessions.get(&self.node.session_of(peer)?)?;
        let session = self.connections.get_mut(&id)?.session.as_deref_mut()?;
        let result = command(session, self.now);
        self.touch(id);
        self.carry();
        Some(result)
    }
}
