//! From an address to a session, in two calls.

use std::error::Error as StdError;

use glueberry_proto::{Address, ConnectionState, StateReason};
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

use super::{Node, address_of};
use crate::error::{Error, ErrorCode, Misuse};
use crate::event::Event;
use crate::events::Events;

impl Node {
    /// Adds the peer that an address names to the address book, and connects to it; returns the
    /// peer. The address ends with `/p2p/` and the peer's id, as those of
    /// [`dial_addrs`](Self::dial_addrs) do. Addresses that were known before are kept.
    ///
    /// Ready when the peer is Connected: [`wait_established`](Self::wait_established) waits for the
    /// handshake. Ready at once if there is a session already. A closed UDP port is silent as a
    /// peer that is gone is: raw QUIC gives such an address up after 10 s by default, and
    /// [`dial_timeout`](glueberry_proto::Config::dial_timeout) ends every dial.
    ///
    /// # Errors
    ///
    /// [`InvalidAddress`](ErrorCode::InvalidAddress), and those of [`add_peer`](Self::add_peer) and
    /// [`connect`](Self::connect).
    pub async fn dial<A>(&self, address: A) -> Result<PeerId, Error>
    where
        A: TryInto<Multiaddr>,
        A::Error: StdError + Send + Sync + 'static,
    {
        let invalid = |error| Error::because(ErrorCode::InvalidAddress, error);
        let address: Multiaddr = address.try_into().map_err(invalid)?;
        let Some(Protocol::P2p(peer)) = address.iter().last() else {
            return Err(Error::because(ErrorCode::InvalidAddress, Misuse::NoPeer));
        };
        let key = self.shared().key_of(peer)?;
        let address = address_of(self.shared(), peer, address)?;
        let most = self.shared().config.core.max_addresses;
        self.change_book(move |core, now| {
            let mut addresses: Vec<Address> = vec![address.clone()];
            if let Some(known) = core.book().entry(key) {
                let others = known.addresses().iter().filter(|known| **known != address);
                let others: Vec<Address> = others.cloned().collect();
                addresses.extend(others);
            }
            addresses.truncate(most);
            core.add_peer(now, key, &addresses)
        })
        .await?
        .map_err(|error| Error::from(error).of_peer(peer))?;
        match self.connect(peer).await {
            Err(error) if error.code() != ErrorCode::AlreadyConnected => Err(error),
            _ => Ok(peer),
        }
    }

    /// Returns the addresses that this node listens on, each with `/p2p/` and the node's id: what a
    /// peer passes to [`dial`](Self::dial).
    pub fn dial_addrs(&self) -> Vec<Multiaddr> {
        let named = |address: Multiaddr| match address.iter().last() {
            Some(Protocol::P2p(_)) => address,
            _ => address.with(Protocol::P2p(self.peer_id())),
        };
        self.addrs().into_iter().map(named).collect()
    }

    /// Waits until a peer is Established.
    ///
    /// Goes on waiting while a dial is tried again by itself, and for a peer that has yet to dial
    /// this node: give it a deadline of your own where that may take too long.
    ///
    /// # Errors
    ///
    /// Once a handshake has failed, or a dial that is not tried again: the reason, among others
    /// [`HandshakeFailed`](ErrorCode::HandshakeFailed),
    /// [`HandshakeTimeout`](ErrorCode::HandshakeTimeout),
    /// [`ConnectionFailed`](ErrorCode::ConnectionFailed). [`InCooldown`](ErrorCode::InCooldown),
    /// [`NotConnected`](ErrorCode::NotConnected) if a dial or session of this node was over before
    /// the call, [`NodeStopped`](ErrorCode::NodeStopped).
    pub async fn wait_established(&self, peer: PeerId) -> Result<(), Error> {
        self.shared().key_of(peer)?;
        self.outcome(peer, self.events_for_peer(peer), true).await
    }

    /// Begins the greeting with a peer that is Connected, and waits until it is Established. For a
    /// node that was built with [`Handshake::on_request`](crate::Handshake::on_request); with the
    /// other kinds of handshake, the greeting has begun by itself.
    ///
    /// It is the document's Hello, PubKey and Complete, which applications of the original use.
    ///
    /// # Errors
    ///
    /// [`HandshakeFailed`](ErrorCode::HandshakeFailed) if the node holds no handshakes,
    /// [`NotConnected`](ErrorCode::NotConnected), and the reason why the session ended.
    pub async fn greet(&self, peer: PeerId) -> Result<(), Error> {
        let Some(greetings) = &self.shared().greetings else {
            let error = Error::because(ErrorCode::HandshakeFailed, Misuse::NoHandshake);
            return Err(error.of_peer(peer));
        };
        let events = self.events_for_peer(peer);
        self.session(peer)?;
        let stopped = |_| Error::new(ErrorCode::NodeStopped).of_peer(peer);
        greetings.wanted.put(peer).map_err(stopped)?;
        self.outcome(peer, events, false).await
    }

    /// Waits for Established, or for what makes it impossible. `events` are the peer's from before
    /// the call on.
    async fn outcome(
        &self,
        peer: PeerId,
        mut events: Events,
        is_patient: bool,
    ) -> Result<(), Error> {
        use ConnectionState::{Connected, Connecting, Cooldown, Disconnected, Established};
        let state = self.connection_state(peer);
        let mut seen = Seen { peer, state, reason: None, has_changed: false };
        loop {
            let now = self.connection_state(peer);
            // A dial that follows would only lead to the same.
            if !matches!(now, Established | Connected)
                && let Some(reason) = self.shared().views.handshake_failure(&peer)
            {
                return Err(Error::from(reason).of_peer(peer));
            }
            match now {
                Established => return Ok(()),
                Connected => {}
                Connecting if is_patient => {}
                Disconnected if is_patient => {
                    // A reconnection is published behind the loss that causes it.
                    self.core(|_, _| ()).await.map_err(|error| error.of_peer(peer))?;
                    let is_over = self.connection_state(peer) == Disconnected;
                    // Before the first change, only the side that has dialled knows that it is over.
                    let is_known = seen.has_changed || self.is_outbound(peer) == Some(true);
                    if is_over && is_known {
                        return Err(seen.failed(ErrorCode::NotConnected));
                    }
                    if !is_over {
                        continue;
                    }
                }
                Cooldown => return Err(seen.failed(ErrorCode::InCooldown)),
                _ if is_patient => {}
                _ => return Err(seen.failed(ErrorCode::NotConnected)),
            }
            match events.recv().await {
                Some(event) => seen.note(event)?,
                None => return Err(Error::new(ErrorCode::NodeStopped).of_peer(peer)),
            }
        }
    }
}

/// What the events of a peer have shown.
struct Seen {
    peer: PeerId,
    state: ConnectionState,
    /// That of the last change that had one.
    reason: Option<StateReason>,
    has_changed: bool,
}

impl Seen {
    /// Takes note of an event. An error if the handshake has failed by it.
    fn note(&mut self, event: Event) -> Result<(), Error> {
        use ConnectionState::{Connected, Cooldown, Disconnected};
        let changed = match event {
            Event::State(changed) => changed,
            Event::Lagged { .. } => {
                self.has_changed = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.has_changed = true;
        if changed.reason.is_some() {
            self.reason = changed.reason;
        }
        let before = std::mem::replace(&mut self.state, changed.state);
        match before == Connected && matches!(changed.state, Disconnected | Cooldown) {
            true => Err(self.failed(ErrorCode::HandshakeFailed)),
            false => Ok(()),
        }
    }

    fn failed(&self, otherwise: ErrorCode) -> Error {
        let reason = self.reason.clone();
        reason.map_or_else(|| Error::new(otherwise), Error::from).of_peer(self.peer)
    }
}
