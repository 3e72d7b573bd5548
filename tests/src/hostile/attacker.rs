//! One attacker: an identity, a connection, and what the victim reports about it.

use std::io;

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::proto::compat::Cipher;
use glueberry_tokio::proto::{Identity, RecordError};
use glueberry_tokio::{CloseReason, ConnectionState, Event, EventFilter, Events, StateReason};

use super::host::STREAM;
use super::stage::Stage;
use super::wire::{Sub, Wire};
use super::within;

pub(super) const MULTISTREAM: &str = "/multistream/1.0.0";
pub(super) const HANDSHAKE: &str = "/glueberry/handshake/1.0.0";
pub(super) const HANDSHAKE_OF_GO: &str = "/glueberry/stream/handshake/1.0.0";

/// An identity with a connection to the victim.
pub(super) struct Attacker<'a> {
    pub(super) stage: &'a Stage,
    pub(super) keys: Keypair,
    pub(super) id: PeerId,
    pub(super) wire: Wire,
    events: Events,
}

impl<'a> Attacker<'a> {
    pub(super) async fn dial(stage: &'a Stage, keys: Keypair) -> io::Result<Self> {
        let id = keys.public().to_peer_id();
        let events = stage.node().events_for_peer(id);
        let to = stage.node().addrs()[0].clone();
        let wire = Wire::dial(&stage.endpoint, &keys, &to, stage.node().peer_id()).await?;
        Ok(Self { stage, keys, id, wire, events })
    }

    // ---- playing by the rules, as far as wanted -----------------------------------------------

    /// Opens a substream and proposes a protocol. Returns what the victim says.
    pub(super) async fn propose(&self, protocol: &str) -> io::Result<(Sub, String)> {
        let mut sub = self.wire.open().await?;
        sub.say(MULTISTREAM).await?;
        sub.say(protocol).await?;
        sub.hear().await?;
        let answer = sub.hear().await?;
        Ok((sub, answer))
    }

    /// Opens a substream of a protocol that the victim accepts.
    pub(super) async fn open(&mut self, protocol: &str) -> Sub {
        match within("a substream is agreed", self.propose(protocol)).await {
            Ok((sub, answer)) => {
                assert_eq!(answer, protocol);
                sub
            }
            Err(error) => panic!("a substream opens: {error}, after {}", self.seen()),
        }
    }

    /// Opens the substream of a named stream.
    pub(super) async fn stream(&mut self, name: &str) -> Sub {
        self.open(&format!("/glueberry/stream/{name}/1.0.0")).await
    }

    /// Gets Connected, and returns the handshake substream.
    pub(super) async fn connected(&mut self) -> Sub {
        let sub = self.open(HANDSHAKE).await;
        self.until(ConnectionState::Connected).await;
        sub
    }

    /// Gets Established, and returns the handshake substream.
    pub(super) async fn established(&mut self) -> Sub {
        let mut sub = self.connected().await;
        sub.write(&frame(&self.hello())).await.expect("it says hello");
        self.until(ConnectionState::Established).await;
        sub
    }

    /// Returns what the victim's application completes the handshake for.
    pub(super) fn hello(&self) -> Vec<u8> {
        self.identity().public_key().as_bytes().to_vec()
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::try_from(&self.keys).expect("an Ed25519 key")
    }

    /// Returns the frame of a record that the victim can open.
    pub(super) fn record(&self, nonce: u8, text: &[u8]) -> Vec<u8> {
        frame(&self.sealed(nonce, text))
    }

    pub(super) fn sealed(&self, nonce: u8, text: &[u8]) -> Vec<u8> {
        let key = self.identity().agree_v1(&self.stage.node().public_key()).expect("two keys");
        Cipher::from_key(&key).encrypt(text, b"", &[nonce; 12])
    }

    // ---- what the victim makes of it ----------------------------------------------------------

    /// Waits for the next event about this attacker from which something can be picked.
    pub(super) async fn event<T>(&mut self, pick: impl Fn(Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(super::PATIENCE, async {
            loop {
                let event = self.events.recv().await.expect("it runs");
                seen.push(format!("{event:?}"));
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("an event does not come; so far {seen:?}"),
        }
    }

    /// Waits for a state.
    pub(super) async fn until(&mut self, state: ConnectionState) {
        self.event(|event| event.state().filter(|(_, now)| *now == state)).await;
    }

    /// Waits until the victim sees it Connected, or has closed the connection. Returns whether it
    /// was Connected.
    pub(super) async fn is_granted(&mut self) -> bool {
        let is_connected = |event: Event| {
            event.state().filter(|(_, now)| *now == ConnectionState::Connected).is_some()
        };
        tokio::select! {
            biased;
            event = self.events.recv() => event.is_some_and(is_connected),
            _ = self.wire.closed() => false,
        }
    }

    /// Waits for the end of the session, and returns its reason.
    pub(super) async fn session_ends(&mut self) -> CloseReason {
        self.event(|event| match event {
            Event::SessionClosed { closed, .. } => Some(closed.reason),
            _ => None,
        })
        .await
    }

    /// Waits until the victim leaves a state for one without a session, and returns why.
    pub(super) async fn leaves(&mut self) -> (ConnectionState, Option<StateReason>) {
        self.event(|event| match event {
            Event::State(changed)
                if !matches!(
                    changed.state,
                    ConnectionState::Connected | ConnectionState::Established
                ) =>
            {
                Some((changed.state, changed.reason))
            }
            _ => None,
        })
        .await
    }

    /// Waits for a rejected record.
    pub(super) async fn rejected(&mut self) -> RecordError {
        self.event(|event| match event {
            Event::RecordRejected { error, .. } => Some(error),
            _ => None,
        })
        .await
    }

    /// Waits until there is no session, and none is wanted.
    pub(super) async fn is_disconnected(&self) {
        within("it is Disconnected", async {
            while self.stage.node().connection_state(self.id) != ConnectionState::Disconnected {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// Checks that the session has ended for this reason, and that the connection was closed.
    pub(super) async fn is_cut_off(&mut self, reason: CloseReason) -> String {
        assert_eq!(self.session_ends().await, reason);
        self.is_closed().await;
        reason.to_string()
    }

    /// Waits until the victim has closed the connection.
    pub(super) async fn is_closed(&self) -> Option<u64> {
        within("the connection is closed", self.wire.closed()).await
    }

    /// Returns what was reported beyond what was waited for, for the message of a failure.
    fn seen(&mut self) -> String {
        use futures_util::FutureExt;
        let events = std::iter::from_fn(|| self.events.recv().now_or_never().flatten());
        let events: Vec<String> = events.map(|event| format!("{event:?}")).collect();
        events.join(", ")
    }

    /// Returns whether nothing was reported beyond what was waited for.
    pub(super) fn has_no_event(&mut self) -> bool {
        use futures_util::FutureExt;
        self.events.recv().now_or_never().is_none()
    }

    /// Checks that the session goes on: a good record is still heard, though perhaps not before the
    /// victim is done with what came before.
    pub(super) async fn is_contained(&mut self) {
        let mut heard = Err(io::Error::other("never"));
        // What was refused is given up in ten seconds at the latest.
        for nonce in 0..200 {
            let name = format!("/glueberry/stream/{STREAM}/1.0.0");
            let trying = async {
                let (mut sub, answer) = self.propose(&name).await?;
                assert_eq!(answer, name);
                sub.write(&self.record(nonce, b"still here")).await?;
                let hears = self.stage.victim.hears(self.id, b"still here");
                drop(tokio::time::timeout(std::time::Duration::from_millis(500), hears).await);
                io::Result::Ok(())
            };
            // Who does not answer probes has no substream forgotten.
            heard = tokio::select! {
                tried = within("a substream is agreed", trying) => tried,
                none = self.wire.victims("") => none.map(drop),
            };
            if self.stage.victim.heard(self.id).iter().any(|heard| heard == "still here") {
                let state = self.stage.node().connection_state(self.id);
                return assert_eq!(state, ConnectionState::Established);
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("the session is over: {heard:?}, after {}", self.seen());
    }

    /// Checks that a good record is heard on a substream.
    pub(super) async fn is_heard_on(&self, sub: &mut Sub) {
        sub.write(&self.record(250, b"still here")).await.expect("it can be written");
        self.stage.victim.hears(self.id, b"still here").await;
        let state = self.stage.node().connection_state(self.id);
        assert_eq!(state, ConnectionState::Established);
    }
}

/// Returns a subscription to what the victim reports about a peer.
pub(super) fn events_about(stage: &Stage, peer: PeerId) -> Events {
    stage.node().subscribe(EventFilter { peers: vec![peer], states: Vec::new() })
}

/// Returns a frame of v1: the length, and the body.
pub(super) fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).expect("short").to_be_bytes(), body].concat()
}
