//! The document's Hello, PubKey and Complete, for applications that have nothing else to say in the
//! handshake.
//!
//! **Optional and replaceable.** What is said in the handshake is the application's: sessions
//! and nodes know nothing of this module, and an application that says something else, or more,
//! leaves it out.
//!
//! ```text
//!         this side                                   the peer
//!            │   01  Hello                               │      both begin, at once if they like
//!            ├──────────────────────────────────────────►│
//!            │◄──────────────────────────────────────────┤
//!            │   02 ‖ Ed25519 key  PubKey                │      each once it has heard Hello
//!            ├──────────────────────────────────────────►│
//!            │◄──────────────────────────────────────────┤
//!  Prepare,  │   03  Complete                            │      each once it has heard PubKey and
//!  then say  ├──────────────────────────────────────────►│      *has prepared*: the other may
//!            │◄──────────────────────────────────────────┤      send on named streams from here
//!  Finalize  │                                           │      once it has heard Complete
//! ```
//!
//! Both sides do the same, whoever dialled. A [`Greeting`] belongs to one session; it is made when
//! the session is Connected, and is driven like the rest of the crate: what was heard and what time
//! it is go in, [`Output`]s come out, to be carried out in order.
//!
//! | output | with a [`Session`](crate::Session) |
//! |---|---|
//! | [`Send`](Output::Send) | [`send_handshake`](crate::Session::send_handshake) |
//! | [`Prepare`](Output::Prepare) | [`prepare_streams`](crate::Session::prepare_streams), with the streams of the application |
//! | [`Finalize`](Output::Finalize) | [`finalize_handshake`](crate::Session::finalize_handshake) |
//! | [`Done`](Output::Done) | nothing: the greeting is over |
//! | [`Reject`](Output::Reject) | [`reject_handshake`](crate::Session::reject_handshake): the greeting is over |
//!
//! While one of two sessions with a peer gives way to the other, both may say that they are not
//! Connected: carry the output out once one of them is. A session that fails to prepare for another
//! reason has nothing to go on with: reject the handshake and take no more.
//!
//! # What is tolerated, and what is not
//!
//! What was heard is remembered, so messages may come twice and in any order; each of ours is said
//! once, and again only when time has passed without an end. A Hello is never answered by another,
//! so that a peer that does answer each with one is not kept busy for ever. Empty messages
//! and those of unknown kinds are left alone, as is everything after the end. A key that is not
//! the peer's, and a version that doesn't go with ours, reject the peer.
//!
//! # With Go applications
//!
//! The messages are those of the original's examples, byte for byte, unless
//! [`GreetingConfig::version`] is set. What they put behind Hello, such as a name, is left alone, as
//! is what is behind Complete.
//!
//! # Example
//!
//! Two of them, joined by two queues:
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
//! let mut mail = [VecDeque::new(), VecDeque::new()];
//! let mut done = Vec::new();
//! while done.len() < 2 {
//!     for side in [0, 1] {
//!         while let Some(output) = sides[side].poll_output() {
//!             match output {
//!                 // session.send_handshake(now, message)?
//!                 Output::Send(message) => mail[1 - side].push_back(message),
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
//!         if let Some(message) = mail[side].pop_front() {
//!             sides[side].handle_message(now, &message);
//!         }
//!     }
//! }
//! assert_eq!(done, [Some(ProtocolVersion::CURRENT); 2]);
//! # Ok::<(), glueberry_proto::ConfigError>(())
//! ```

mod message;
mod output;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use self::message::Message;
pub use self::output::{Output, RejectReason};
use crate::config::{ConfigError, Problem};
use crate::crypto::PublicKey;
use crate::time::Instant;
use crate::version::ProtocolVersion;

/// What a [`Greeting`] tells, and how long it waits.
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
    /// The version that is told behind Hello; it is then checked against the peer's, if the peer
    /// tells one. `None`: nothing is told, and nothing behind Hello is read.
    ///
    /// Set it only where Go applications are not among the peers, or their users don't mind: some
    /// of them take what is behind Hello for the name of a person or a node, and show it.
    pub version: Option<ProtocolVersion>,
    /// Time after which all that was said is said again. 10 s.
    pub retry_after: Duration,
    /// Times that it is said again, before the peer is rejected. 4: with the default time, that is
    /// after 50 s, so that the session's own limit of 60 s comes second.
    pub max_retries: u32,
}

impl Default for GreetingConfig {
    fn default() -> Self {
        Self { version: None, retry_after: Duration::from_secs(10), max_retries: 4 }
    }
}

/// One side of the document's handshake with one peer.
///
/// It holds no secret, draws no randomness, and its memory doesn't grow with what the peer says.
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
    heard: Heard,
    /// When what was said is said again, or the peer is given up.
    deadline: Instant,
    retries: u32,
    outputs: VecDeque<Output>,
}

/// How far this side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    SaidHello,
    SaidPubKey,
    SaidComplete,
    Over,
}

/// What the peer has said so far, all of it checked.
#[derive(Debug, Default)]
struct Heard {
    hello: bool,
    version: Option<ProtocolVersion>,
    pub_key: bool,
    complete: bool,
}

impl Greeting {
    /// Begins with Hello; `peer` is the identity that the transport has authenticated.
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
            stage: Stage::SaidHello,
            heard: Heard::default(),
            deadline: now + config.retry_after,
            retries: 0,
            outputs: VecDeque::from([Output::Send(message::hello(config.version))]),
        })
    }

    /// Returns whether [`Output::Done`] or [`Output::Reject`] was reached. What leads to it may still
    /// wait to be polled; inputs do nothing any more.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Takes a handshake message of the peer.
    pub fn handle_message(&mut self, now: Instant, message: &[u8]) {
        self.handle_timeout(now);
        if self.is_over() {
            return;
        }
        match self.hear(message) {
            Ok(()) => self.go_on(),
            Err(reason) => self.end(Output::Reject(reason)),
        }
    }

    /// Does what is due. Early and spurious calls are harmless.
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
        self.say_again();
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

    // ---- what is heard ------------------------------------------------------------------------

    fn hear(&mut self, message: &[u8]) -> Result<(), RejectReason> {
        match Message::parse(message) {
            Some(Message::Hello(told)) => {
                self.check_version(told)?;
                self.heard.hello = true;
            }
            Some(Message::PubKey(key)) => {
                self.check_key(key)?;
                self.heard.pub_key = true;
            }
            Some(Message::Complete) => self.heard.complete = true,
            None => {}
        }
        Ok(())
    }

    fn check_version(&mut self, told: &[u8]) -> Result<(), RejectReason> {
        let (Some(ours), Some(text)) = (self.config.version, message::version_text(told)) else {
            return Ok(());
        };
        let theirs = ProtocolVersion::from_ascii(text).map_err(RejectReason::MalformedVersion)?;
        if !ours.is_compatible_with(theirs) {
            return Err(RejectReason::IncompatibleVersion { ours, theirs });
        }
        self.heard.version = Some(theirs);
        Ok(())
    }

    fn check_key(&self, key: &[u8]) -> Result<(), RejectReason> {
        if key == self.peer.as_bytes() {
            return Ok(());
        }
        let given = PublicKey::from_bytes(key).map_err(RejectReason::NotAKey)?;
        Err(RejectReason::WrongKey { given, peer: self.peer })
    }

    // ---- what is said -------------------------------------------------------------------------

    /// Goes as far as what was heard allows.
    fn go_on(&mut self) {
        if self.stage == Stage::SaidHello && self.heard.hello {
            self.stage = Stage::SaidPubKey;
            self.send(message::pub_key(&self.own));
        }
        if self.stage == Stage::SaidPubKey && self.heard.pub_key {
            self.stage = Stage::SaidComplete;
            // Complete invites the peer to send on named streams, so they must be ready first.
            self.outputs.push_back(Output::Prepare(self.peer));
            self.send(message::complete());
        }
        if self.stage == Stage::SaidComplete && self.heard.complete {
            self.outputs.push_back(Output::Finalize);
            self.end(Output::Done { version: self.heard.version });
        }
    }

    /// Says all again that was said so far: the peer may have lost any of it, and a Go application
    /// repeats its own only when it hears Hello.
    fn say_again(&mut self) {
        if !self.outputs.is_empty() {
            // What was not taken yet was not said yet.
            return;
        }
        self.send(message::hello(self.config.version));
        if self.stage >= Stage::SaidPubKey {
            self.send(message::pub_key(&self.own));
        }
        if self.stage >= Stage::SaidComplete {
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
