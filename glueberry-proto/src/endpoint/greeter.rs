//! The document's handshake, held by the endpoint itself.

use alloc::collections::BTreeMap;

use super::{Endpoint, Transport};
use crate::crypto::PublicKey;
use crate::error::HandshakeError;
use crate::greeting::{Greeting, GreetingConfig, Output};
use crate::node::ConnectionState;
use crate::prelude::*;
use crate::time::Instant;
use crate::wire::StreamName;

/// The greetings of all peers that are Connected.
#[derive(Debug)]
pub(super) struct Greeter {
    config: GreetingConfig,
    streams: Vec<StreamName>,
    greetings: BTreeMap<PublicKey, Greeting>,
}

impl Greeter {
    pub(super) const fn new(config: GreetingConfig, streams: Vec<StreamName>) -> Self {
        Self { config, streams, greetings: BTreeMap::new() }
    }

    pub(super) fn handle_message(&mut self, now: Instant, peer: PublicKey, message: &[u8]) {
        if let Some(greeting) = self.greetings.get_mut(&peer) {
            greeting.handle_message(now, message);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.greetings.values().filter_map(Greeting::poll_timeout).min()
    }

    fn due(&self, now: Instant) -> Option<PublicKey> {
        let is_due = |greeting: &Greeting| greeting.poll_timeout().is_some_and(|at| at <= now);
        self.greetings.iter().find(|(_, greeting)| is_due(greeting)).map(|(peer, _)| *peer)
    }
}

impl<T: Transport> Endpoint<T> {
    /// A peer's state has changed: begins a greeting, or ends it.
    pub(super) fn touch_greeted(&mut self, peer: PublicKey, state: ConnectionState) {
        let own = self.node.public_key();
        let Some(greeter) = &mut self.greeter else {
            return;
        };
        greeter.greetings.remove(&peer);
        // The configuration was tried before.
        if state == ConnectionState::Connected
            && let Ok(greeting) = Greeting::new(self.now, own, peer, greeter.config)
        {
            greeter.greetings.insert(peer, greeting);
            self.greet(peer);
        }
    }

    /// Lets a greeting whose time has come go on. Returns whether there was one.
    pub(super) fn greet_due(&mut self) -> bool {
        let now = self.now;
        let Some(greeter) = &mut self.greeter else {
            return false;
        };
        let Some(peer) = greeter.due(now) else {
            return false;
        };
        if let Some(greeting) = greeter.greetings.get_mut(&peer) {
            greeting.handle_timeout(now);
        }
        self.greet(peer);
        true
    }

    /// Carries out what the greeting of a peer wants.
    pub(super) fn greet(&mut self, peer: PublicKey) {
        let next = |greeter: &mut Option<Greeter>| {
            greeter.as_mut()?.greetings.get_mut(&peer)?.poll_output()
        };
        while let Some(output) = next(&mut self.greeter) {
            let now = self.now;
            match output {
                // It repeats what is refused now.
                Output::Send(message) => _ = self.send_handshake(now, peer, message),
                Output::Prepare(key) => {
                    let streams =
                        self.greeter.as_ref().map_or_else(Vec::new, |it| it.streams.clone());
                    match self.prepare_streams(now, peer, key, &streams) {
                        Ok(()) | Err(HandshakeError::NotConnected) => {}
                        Err(error) => self.reject_handshake(now, peer, &error.to_string()),
                    }
                }
                Output::Finalize => {
                    if let Err(error) = self.finalize_handshake(now, peer) {
                        self.reject_handshake(now, peer, &error.to_string());
                    }
                }
                Output::Reject(reason) => self.reject_handshake(now, peer, &reason.to_string()),
                Output::Done { .. } => {}
            }
        }
    }
}
