//! A greeting, driven by a script of messages and of time.

use std::time::Duration;

use super::script::Script;
use crate::crypto::{Identity, PublicKey};
use crate::greeting::{Greeting, GreetingConfig, Output, RejectReason};
use crate::time::Instant;
use crate::version::ProtocolVersion;

/// Runs a script against a greeting: valid and invalid messages, and time; then the messages of an
/// honest peer.
///
/// Nothing may panic. Timers must lie ahead. Messages must be sent in order, when they are allowed and
/// no more often than configured. There must be one end, for a reason that the script has given.
pub fn fuzz_greeting(data: &[u8]) {
    let mut script = Script::new(data);
    let mut play = Play::new(script.byte());
    while let Some(step) = script.next() {
        play.step(step & 0x0f, step >> 4, &mut script);
        play.check();
    }
    play.end();
}

struct Play {
    greeting: Greeting,
    config: GreetingConfig,
    own: PublicKey,
    peer: PublicKey,
    now: Instant,
    received: Received,
    sent: Sent,
}

/// What the greeting has received before its end.
#[derive(Default)]
struct Received {
    hello: bool,
    key: bool,
    complete: bool,
    versions: Vec<ProtocolVersion>,
    /// Something for which the peer must be rejected.
    wrong: bool,
}

/// What the greeting has put out.
#[derive(Default)]
struct Sent {
    hellos: u32,
    keys: u32,
    completes: u32,
    prepared: bool,
    finalized: bool,
    ended: bool,
}

impl Play {
    fn new(flags: u8) -> Self {
        let [own, peer] = [1, 2].map(|secret| Identity::from_seed(&[secret; 32]).public_key());
        let config = GreetingConfig {
            version: (flags & 1 != 0).then_some(ProtocolVersion::CURRENT),
            retry_after: Duration::from_micros(u64::from(flags >> 4) + 1),
            max_retries: u32::from((flags >> 1) & 7),
        };
        let now = Instant::ZERO;
        let greeting = Greeting::new(now, own, peer, config).expect("a valid configuration");
        let (received, sent) = (Received::default(), Sent::default());
        Self { greeting, config, own, peer, now, received, sent }
    }

    /// Takes one step; `choice` has four bits.
    fn step(&mut self, what: u8, choice: u8, script: &mut Script<'_>) {
        let len = usize::from(choice);
        match what {
            0 => self.receive(&[1]),
            1 => self.receive(&[b"\x01", script.take(len)].concat()),
            2 => self.receive(&[b"\x01\0", script.take(len)].concat()),
            3 => self.receive(&[b"\x01\x001.", script.take(len)].concat()),
            4 => self.receive(&[&[2], &self.peer.as_bytes()[..]].concat()),
            5 => self.receive(&[&[2], &self.own.as_bytes()[..]].concat()),
            6 => self.receive(&[&[2], script.take(len + 25)].concat()),
            7 => self.receive(&[&[3], script.take(len)].concat()),
            8 => self.receive(script.take(len)),
            9 => {
                // Time that passes with a message only.
                self.now = self.now + Duration::from_micros(u64::from(choice));
                self.receive(&[]);
            }
            10 => {
                // An earlier time must be counted as the latest.
                let earlier = self.now.as_micros() / (u64::from(choice) + 1);
                self.greeting.handle_timeout(Instant::from_micros(earlier));
            }
            11 => {
                if let Some(at) = self.greeting.poll_timeout() {
                    self.pass(at.duration_since(self.now).as_micros().try_into().unwrap_or(0));
                }
            }
            12 => {
                if let Some(output) = self.greeting.poll_output() {
                    self.take(output);
                }
            }
            _ => self.drain(),
        }
    }

    fn receive(&mut self, message: &[u8]) {
        let is_over = self.greeting.is_over();
        self.greeting.handle_message(self.now, message);
        if !is_over {
            self.note(message);
        }
    }

    /// Parses a message a second time, independently of the greeting.
    fn note(&mut self, message: &[u8]) {
        match message.split_first() {
            Some((1, rest)) => {
                let version = rest.split_first().filter(|(mark, _)| **mark == 0);
                if let (Some(ours), Some((_, text))) = (self.config.version, version) {
                    let theirs: Option<ProtocolVersion> =
                        str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                    let theirs = theirs.filter(|theirs| {
                        assert_eq!(theirs.to_string().as_bytes(), text, "one text per version");
                        theirs.major() == ours.major()
                    });
                    self.received.wrong |= theirs.is_none();
                    self.received.versions.extend(theirs);
                }
                self.received.hello = true;
            }
            Some((2, key)) => {
                let is_right = key == self.peer.as_bytes();
                self.received.wrong |= !is_right;
                self.received.key |= is_right;
            }
            Some((3, _)) => self.received.complete = true,
            _ => {}
        }
    }

    fn pass(&mut self, micros: u64) {
        self.now = self.now + Duration::from_micros(micros);
        self.greeting.handle_timeout(self.now);
    }

    fn drain(&mut self) {
        for count in 0.. {
            let Some(output) = self.greeting.poll_output() else { break };
            assert!(count < MAX_WAITING, "outputs pile up");
            self.take(output);
        }
    }

    fn take(&mut self, output: Output) {
        let (received, sent) = (&self.received, &mut self.sent);
        assert!(!sent.ended, "{output:?} after the end");
        match output {
            Output::Send(message) => match message.split_first() {
                Some((1, rest)) => {
                    let version = self.config.version.map(|version| format!("\0{version}"));
                    assert_eq!(rest, version.unwrap_or_default().as_bytes());
                    sent.hellos += 1;
                }
                Some((2, key)) => {
                    assert_eq!(key, self.own.as_bytes());
                    assert!(received.hello && sent.hellos > 0);
                    sent.keys += 1;
                }
                other => {
                    assert_eq!(other, Some((&3, &[][..])));
                    assert!(sent.prepared, "invited before it was prepared");
                    sent.completes += 1;
                }
            },
            Output::Prepare(key) => {
                assert_eq!(key, self.peer);
                assert!(received.key && sent.keys > 0 && !sent.prepared);
                sent.prepared = true;
            }
            Output::Finalize => {
                assert!(received.complete && sent.completes > 0 && !sent.finalized);
                sent.finalized = true;
            }
            Output::Done { version } => {
                assert!(sent.finalized && !received.wrong);
                assert_eq!(version, received.versions.last().copied());
                sent.ended = true;
            }
            Output::Reject(reason) => {
                assert!(!sent.finalized);
                let is_late = matches!(reason, RejectReason::TimedOut { .. });
                assert!(is_late || received.wrong, "{reason}");
                let patience = self.config.retry_after * (self.config.max_retries + 1);
                assert!(!is_late || self.now >= Instant::ZERO + patience);
                sent.ended = true;
            }
        }
        let most = self.config.max_retries + 1;
        assert!([sent.hellos, sent.keys, sent.completes].iter().all(|count| *count <= most));
    }

    fn check(&self) {
        let timeout = self.greeting.poll_timeout();
        assert!(timeout.is_none_or(|at| at > self.now), "{timeout:?} at {}", self.now);
        assert_eq!(timeout.is_none(), self.greeting.is_over());
        assert_eq!(timeout, self.greeting.poll_timeout());
    }

    /// Sends all messages of an honest peer, which must end the greeting.
    fn end(&mut self) {
        let was_over = self.greeting.is_over();
        for message in [&[1][..], &[&[2], &self.peer.as_bytes()[..]].concat(), &[3]] {
            self.receive(message);
        }
        assert!(self.greeting.is_over());
        self.drain();
        assert!(self.sent.ended);
        assert!(was_over || self.sent.finalized, "an honest peer was rejected");
    }
}

/// All repeated messages, and the last outputs.
const MAX_WAITING: usize = 8;
