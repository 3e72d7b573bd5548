//! The document's Hello, PubKey and Complete messages, for applications that exchange nothing else in
//! the handshake.
//!
//! **Optional and replaceable.** The content of the handshake is the application's. Sessions and
//! nodes know nothing of this module; an application with another handshake does not use it.
//!
//! ```text
//!         this side                                   the peer
//!            │   01  Hello                               │      both begin, perhaps at the same time
//!            ├──────────────────────────────────────────►│
//!            │◄──────────────────────────────────────────┤
//!            │   02 ‖ Ed25519 key  PubKey                │      each after it received Hello
//!            ├──────────────────────────────────────────►│
//!            │◄──────────────────────────────────────────┤
//!  Prepare,  │   03  Complete                            │      each after it received PubKey and
//!  then send ├──────────────────────────────────────────►│      *prepared*: the other may send
//!            │◄──────────────────────────────────────────┤      on named streams from here
//!  Finalize  │                                           │      after it received Complete
//! ```
//!
//! Both sides do the same; it does not matter which one dialled. A [`Greeting`] belongs to one
//! session. It is created when the session is Connected, and is driven like the rest of the crate:
//! messages and time go in, [`Output`]s come out and are carried out in order.
//!
//! | output | with a [`Session`](crate::Session) |
//! |---|---|
//! | [`Send`](Output::Send) | [`send_handshake`](crate::Session::send_handshake) |
//! | [`Prepare`](Output::Prepare) | [`prepare_streams`](crate::Session::prepare_streams), with the streams of the application |
//! | [`Finalize`](Output::Finalize) | [`finalize_handshake`](crate::Session::finalize_handshake) |
//! | [`Done`](Output::Done) | nothing: the greeting is over |
//! | [`Reject`](Output::Reject) | [`reject_handshake`](crate::Session::reject_handshake): the greeting is over |
//!
//! While one of two sessions with a peer replaces the other, both may return
//! [`NotConnected`](crate::HandshakeError::NotConnected): carry the output out when one of them is
//! Connected. If preparing fails for another reason, reject the handshake and drop the greeting.
//!
//! # What is tolerated, and what is not
//!
//! Received messages are remembered, so they may arrive twice and in any order. Each of ours is sent
//! once, and repeated only after a timeout. A Hello is never answered by another: two sides that both
//! did so would never stop. Empty messages, those of unknown kinds, and everything after the end are
//! ignored. A key that is not the peer's and an incompatible version reject the peer.
//!
//! # With Go applications
//!
//! The messages are those of the original's examples, byte for byte, unless
//! [`GreetingConfig::version`] is set. Their additions behind Hello, such as a name, and behind
//! Complete are ignored.
//!
//! # Example
//!
//! Two greetings, connected by two queues:
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use glueberry_proto::greeting::{Greeting, GreetingConfig, Output};
//! use glueberry_proto::{Identity, Instant, ProtocolVersion};
//!
//! let mut config = GreetingConfig::default();
//! config.version = Some(ProtocolVersion::CURRENT);
//! let [alice, bob] = [1, 2].map(|secret| Identity::from_seed(&[secret; 32]).public_key());
//! let now = Instant::ZERO;
//! let mut sides =
//!     [Greeting::new(now, alice, bob, config)?, Greeting::new(now, bob, alice, config)?];
//!
//! let mut queues = [VecDeque::new(), VecDeque::new()];
//! let mut done = Vec::new();
//! while done.len() < 2 {
//!     for side in [0, 1] {
//!         while let Some(output) = sides[side].poll_output() {
//!             match output {
//!                 // session.send_handshake(now, message)?
//!                 Output::Send(message) => queues[1 - side].push_back(message),
//!                 // session.prepare_streams(now, key, &streams)?
//!                 Output::Prepare(key) => assert_eq!(key, [bob, alice][side]),
//!                 // session.finalize_handshake(now)?
//!                 Output::Finalize => {}
//!                 Output::Done { version } => done.push(version),
//!                 // session.reject_handshake(now, &reason.to_string())
//!                 Output::Reject(reason) => panic!("{reason}"),
//!                 _ => unreachable!(),
//!             }
//!         }
//!         if let Some(message) = queues[side].pop_front() {
//!             sides[side].handle_message(now, &message);
//!         }
//!     }
//! }
//! assert_eq!(done, [Some(ProtocolVersion::CURRENT); 2]);
//! # Ok::<(), glueberry_proto::ConfigError>(())
//! ```

mod message;
mod output;

use alloc::collections::VecDeque;
use core::time::Duration;

use bytes::Bytes;

use self::message::Message;
pub use self::output::{Output, RejectReason};
use crate::config::{ConfigError, Problem};
use crate::crypto::PublicKey;
use crate::time::Instant;
use crate::version::ProtocolVersion;

/// What a [`Greeting`] announces, and how long it waits.
///
/// ```
/// use glueberry_proto::greeting::GreetingConfig;
///
/// let mut config = GreetingConfig::default();
/// config.version = Some(glueberry_proto::ProtocolVersion::CURRENT);
/// assert_eq!(config.max_retries, 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GreetingConfig {
    /// The version that is sent behind Hello and checked against the peer's, if the peer sends one.
    /// `None`: no version is sent, and nothing behind Hello is read.
    ///
    /// Some Go applications read the bytes behind Hello as the name of a person or a node and show
    /// it. Leave the field unset if such applications are among the peers and users would mind.
    pub version: Option<ProtocolVersion>,
    /// Time after which all messages sent so far are sent again. 10 s.
    pub retry_after: Duration,
    /// Repetitions before the peer is rejected. 4: with the default time, that is after 50 s, so
    /// that the session's own limit of 60 s comes second.
    pub max_retries: u32,
}

impl Default for GreetingConfig {
    fn default() -> Self {
        Self { version: None, retry_after: Duration::from_secs(10), max_retries: 4 }
    }
}

/// One side of the document's handshake with one peer.
///
/// It holds no secret, draws no randomness, and its memory doesn't grow with what the peer sends.
/// The [module's documentation](self) has the flow and an example.
///
/// ```
/// use glueberry_proto::greeting::{Greeting, GreetingConfig, Output};
/// use glueberry_proto::{Identity, Instant};
///
/// let [own, peer] = [1, 2].map(|secret| Identity::from_seed(&[secret; 32]).public_key());
/// let mut greeting = Greeting::new(Instant::ZERO, own, peer, GreetingConfig::default())?;
/// assert_eq!(greeting.poll_output(), Some(Output::Send([1][..].into())), "Hello");
/// greeting.handle_message(Instant::ZERO, &[1]);
/// let Some(Output::Send(key)) = greeting.poll_output() else { panic!() };
/// assert_eq!(key[1..], own.as_bytes()[..]);
/// # Ok::<(), glueberry_proto::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Greeting {
    config: GreetingConfig,
    own: PublicKey,
    peer: PublicKey,
    now: Instant,
    stage: Stage,
    received: Received,
    /// When the messages sent so far are repeated, or the peer is rejected.
    deadline: Instant,
    retries: u32,
    outputs: VecDeque<Output>,
}

/// How far this side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    SentHello,
    SentPubKey,
    SentComplete,
    Over,
}

/// What the peer has sent so far, all of it checked.
#[derive(Debug, Default)]
struct Received {
    hello: bool,
    version: Option<ProtocolVersion>,
    pub_key: bool,
    complete: bool,
}

impl Greeting {
    /// Creates a greeting that begins with Hello. `peer` is the identity that the transport has
    /// authenticated.
    ///
    /// # Errors
    ///
    /// [`GreetingConfig::retry_after`] must not be zero.
    pub fn new(
        now: Instant,
        own: PublicKey,
        peer: PublicKey,
        config: GreetingConfig,
    ) -> Result<Self, ConfigError> {
        if config.retry_after.is_zero() {
            return Err(ConfigError::new("retry_after", Problem::Zero));
        }
        Ok(Self {
            config,
            own,
            peer,
            now,
            stage: Stage::SentHello,
            received: Received::default(),
            deadline: now + config.retry_after,
            retries: 0,
            outputs: VecDeque::from([Output::Send(message::hello(config.version))]),
        })
    }

    /// True if [`Output::Done`] or [`Output::Reject`] was reached. It and the outputs before it may
    /// still wait to be polled; inputs have no effect any more.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Handles a handshake message of the peer.
    pub fn handle_message(&mut self, now: Instant, message: &[u8]) {
        self.handle_timeout(now);
        if self.is_over() {
            return;
        }
        match self.receive(message) {
            Ok(()) => self.advance(),
            Err(reason) => self.end(Output::Reject(reason)),
        }
    }

    /// Handles the passing of time. Early and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.is_over() || self.deadline > self.now {
            return;
        }
        if self.retries >= self.config.max_retries {
            return self.end(Output::Reject(RejectReason::TimedOut { retries: self.retries }));
        }
        self.retries += 1;
        self.deadline = self.now + self.config.retry_after;
        self.repeat();
    }

    // ---- outputs ------------------------------------------------------------------------------

    /// Returns the next thing to do. The last of all is [`Output::Done`] or [`Output::Reject`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout): strictly later than the
    /// latest `now`, or never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_armed = !self.is_over() && self.deadline > self.now;
        is_armed.then_some(self.deadline)
    }

    // ---- received messages --------------------------------------------------------------------

    fn receive(&mut self, message: &[u8]) -> Result<(), RejectReason> {
        match Message::parse(message) {
            Some(Message::Hello(rest)) => {
                self.check_version(rest)?;
                self.received.hello = true;
            }
            Some(Message::PubKey(key)) => {
                self.check_key(key)?;
                self.received.pub_key = true;
            }
            Some(Message::Complete) => self.received.complete = true,
            // Go applications ignore what they don't know; a later version may add kinds.
            None => {}
        }
        Ok(())
    }

    fn check_version(&mut self, behind_hello: &[u8]) -> Result<(), RejectReason> {
        let text = message::version_text(behind_hello);
        let (Some(ours), Some(text)) = (self.config.version, text) else {
            // A version is optional on both sides, so only two announced versions can disagree.
            return Ok(());
        };
        let theirs = ProtocolVersion::from_ascii(text).map_err(RejectReason::MalformedVersion)?;
        if !ours.is_compatible_with(theirs) {
            return Err(RejectReason::IncompatibleVersion { ours, theirs });
        }
        self.received.version = Some(theirs);
        Ok(())
    }

    fn check_key(&self, key: &[u8]) -> Result<(), RejectReason> {
        // The peer's identity is known to be valid; only a differing key is worth a full check.
        if key == self.peer.as_bytes() {
            return Ok(());
        }
        let given = PublicKey::from_bytes(key).map_err(RejectReason::NotAKey)?;
        Err(RejectReason::WrongKey { given, peer: self.peer })
    }

    // ---- sent messages ------------------------------------------------------------------------

    /// Takes every step that the received messages allow.
    fn advance(&mut self) {
        // Messages may have arrived out of order, so one of them can allow several steps.

        if self.stage == Stage::SentHello && self.received.hello {
            self.stage = Stage::SentPubKey;
            self.send(message::pub_key(&self.own));
        }
        if self.stage == Stage::SentPubKey && self.received.pub_key {
            self.stage = Stage::SentComplete;
            // Complete invites the peer to send on named streams, so they must be ready first.
            self.outputs.push_back(Output::Prepare(self.peer));
            self.send(message::complete());
        }
        if self.stage == Stage::SentComplete && self.received.complete {
            self.outputs.push_back(Output::Finalize);
            self.end(Output::Done { version: self.received.version });
        }
    }

    /// Sends all messages again that were sent so far. The peer may have lost any of them, and a Go
    /// application repeats its own only when it receives Hello.
    fn repeat(&mut self) {
        if !self.outputs.is_empty() {
            // The application has not taken the first copies yet; a second one would only pile up.
            return;
        }
        self.send(message::hello(self.config.version));
        if self.stage >= Stage::SentPubKey {
            self.send(message::pub_key(&self.own));
        }
        if self.stage >= Stage::SentComplete {
            self.send(message::complete());
        }
    }

    fn send(&mut self, message: Bytes) {
        self.outputs.push_back(Output::Send(message));
    }

    fn end(&mut self, with: Output) {
        self.stage = Stage::Over;
        self.outputs.push_back(with);
    }
}

#[cfg(test)]
mod tests;
