//! A greeting, driven by a script of what a peer can say and of time.

use std::time::Duration;

use super::script::Script;
use crate::crypto::{Identity, PublicKey};
use crate::greeting::{Greeting, GreetingConfig, Output, RejectReason};
use crate::time::Instant;
use crate::version::ProtocolVersion;

/// Plays a script against a greeting: messages right and wrong, whole and made up, and time; then
/// what an honest peer says.
///
/// Nothing may panic; timers must lie ahead; what is said must be due, in order and no more often
/// than configured; there must be one end, for a reason that the script has given.
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
    heard: Heard,
    said: Said,
}

/// What the greeting was told before its end.
#[derive(Default)]
struct Heard {
    hello: bool,
    key: bool,
    complete: bool,
    versions: Vec<ProtocolVersion>,
    /// Something for which the peer must be rejected.
    wrong: bool,
}

/// What has come of it.
#[derive(Default)]
struct Said {
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
        let (heard, said) = (Heard::default(), Said::default());
        Self { greeting, config, own, peer, now, heard, said }
    }

    /// Does one thing; `choice` has four bits.
    fn step(&mut self, what: u8, choice: u8, script: &mut Script<'_>) {
        let len = usize::from(choice);
        match what {
            0 => self.hear(&[1]),
            1 => self.hear(&[b"\x01", script.take(len)].concat()),
            2 => self.hear(&[b"\x01\0", script.take(len)].concat()),
            3 => self.hear(&[b"\x01\x001.", script.take(len)].concat()),
            4 => self.hear(&[&[2], &self.peer.as_bytes()[..]].concat()),
            5 => self.hear(&[&[2], &self.own.as_bytes()[..]].concat()),
            6 => self.hear(&[&[2], script.take(len + 25)].concat()),
            7 => self.hear(&[&[3], script.take(len)].concat()),
            8 => self.hear(script.take(len)),
            9 => {
                // Time that only a message tells of.
                self.now = self.now + Duration::from_micros(u64::from(choice));
                self.hear(&[]);
            }
            10 => {
                // Due or not, the last time counts.
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

    fn hear(&mut self, message: &[u8]) {
        let is_over = self.greeting.is_over();
        self.greeting.handle_message(self.now, message);
        if !is_over {
            self.note(message);
        }
    }

    /// Reads a message once more, in another way than the greeting does.
    fn note(&mut self, message: &[u8]) {
        match message.split_first() {
            Some((1, rest)) => {
                let told = rest.split_first().filter(|(mark, _)| **mark == 0);
                if let (Some(ours), Some((_, text))) = (self.config.version, told) {
                    let theirs: Option<ProtocolVersion> =
                        str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                    let theirs = theirs.filter(|theirs| {
                        assert_eq!(theirs.to_string().as_bytes(), text, "one text per version");
                        theirs.major() == ours.major()
                    });
                    self.heard.wrong |= theirs.is_none();
                    self.heard.versions.extend(theirs);
                }
                self.heard.hello = true;
            }
            Some((2, key)) => {
                let is_right = key == self.peer.as_bytes();
                self.heard.wrong |= !is_right;
                self.heard.key |= is_right;
            }
            Some((3, _)) => self.heard.complete = true,
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
        let (heard, said) = (&self.heard, &mut self.said);
        assert!(!said.ended, "{output:?} after the end");
        match output {
            Output::Send(message) => match message.split_first() {
                Some((1, told)) => {
                    let version = self.config.version.map(|version| format!("\0{version}"));
                    assert_eq!(told, version.unwrap_or_default().as_bytes());
                    said.hellos += 1;
                }
                Some((2, key)) => {
                    assert_eq!(key, self.own.as_bytes());
                    assert!(heard.hello && said.hellos > 0);
                    said.keys += 1;
                }
                other => {
                    assert_eq!(other, Some((&3, &[][..])));
                    assert!(said.prepared, "invited before it was prepared");
                    said.completes += 1;
                }
            },
            Output::Prepare(key) => {
                assert_eq!(key, self.peer);
                assert!(heard.key && said.keys > 0 && !said.prepared);
                said.prepared = true;
            }
            Output::Finalize => {
                assert!(heard.complete && said.completes > 0 && !said.finalized);
                said.finalized = true;
            }
            Output::Done { version } => {
                assert!(said.finalized && !heard.wrong);
                assert_eq!(version, heard.versions.last().copied());
                said.ended = true;
            }
            Output::Reject(reason) => {
                assert!(!said.finalized);
                let is_late = matches!(reason, RejectReason::TimedOut { .. });
                assert!(is_late || heard.wrong, "{reason}");
                let patience = self.config.retry_after * (self.config.max_retries + 1);
                assert!(!is_late || self.now >= Instant::ZERO + patience);
                said.ended = true;
            }
        }
        let most = self.config.max_retries + 1;
        assert!([said.hellos, said.keys, said.completes].iter().all(|count| *count <= most));
    }

    fn check(&self) {
        let timeout = self.greeting.poll_timeout();
        assert!(timeout.is_none_or(|at| at > self.now), "{timeout:?} at {}", self.now);
        assert_eq!(timeout.is_none(), self.greeting.is_over());
        assert_eq!(timeout, self.greeting.poll_timeout());
    }

    /// An honest peer says all there is to say: that must be the end.
    fn end(&mut self) {
        let was_over = self.greeting.is_over();
        for message in [&[1][..], &[&[2], &self.peer.as_bytes()[..]].concat(), &[3]] {
            self.hear(message);
        }
        assert!(self.greeting.is_over());
        self.drain();
        assert!(self.said.ended);
        assert!(was_over || self.said.finalized, "an honest peer was rejected");
    }
}

/// All that is said again, and all that is left to do.
const MAX_WAITING: usize = 8;
