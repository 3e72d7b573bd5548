//! Frames of v2 from a peer, and two ends of a handshake substream with an adversary between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::script::Script;
use crate::crypto::{Identity, RustCrypto, SharedKey};
use crate::time::Instant;
use crate::v2::agreement::{Binding, Hedge};
use crate::v2::control::{Abandon, Close};
use crate::v2::frame::Header;
use crate::v2::gate::{self, Application, Gate, Messages, Setup, Step};
use crate::v2::instance::{Open, Preamble};
use crate::v2::kex::Kex;
use crate::v2::{Padding, Role, Suite};

/// Parses bytes as each frame, body and preamble of v2. What parses is written and parsed once more.
pub fn fuzz_v2_frames(data: &[u8]) {
    let header = Header::parse(data);
    for cut in 0..data.len().min(LONGEST_HEADER) {
        let part = Header::parse(&data[..cut]);
        assert!(part == Ok(None) || part == header, "cut at {cut}: {part:?}");
    }
    if let Ok(Some(header)) = header {
        assert!(header.prefix < LONGEST_HEADER && header.len > 0);
    }
    for role in [Role::Initiator, Role::Responder] {
        if let Ok(kex) = Kex::parse(data, role) {
            assert_eq!(Kex::parse(&kex.emit()[1..], role).as_ref(), Ok(&kex));
        }
    }
    if let Ok(close) = Close::parse(data) {
        assert_eq!(close.emit(), data);
    }
    if let Ok(abandon) = Abandon::parse(data) {
        assert_eq!(abandon.emit(), data);
    }
    if let Some(expected) = data.first_chunk()
        && let Ok(open) = Open::parse(data, u32::from_be_bytes(*expected))
    {
        assert_eq!(open.emit()[..], *data);
    }
    if let Some(preamble) = Preamble::parse(data) {
        let mut emitted = BytesMut::new();
        preamble.emit(&mut emitted);
        assert_eq!(emitted, data[..emitted.len()]);
    }
}

/// Plays the bytes as a script with two gates: their applications send and finish, and an adversary
/// carries what they write, cuts, alters, drops, repeats and makes up.
///
/// A side whose peer is confirmed has read, before and after, what that peer has sent, in order, and
/// both have agreed on the same.
pub fn fuzz_v2_gate(data: &[u8]) {
    let mut script = Script::new(data);
    let mut sides = [Role::Initiator, Role::Responder].map(End::new);
    let mut now = Instant::ZERO;
    for _ in 0..MOST_STEPS {
        let Some(what) = script.next() else { break };
        let (own, other) = (usize::from(what & 1), usize::from(!what & 1));
        match what >> 1 & 7 {
            0 => {
                let message = vec![what; script.number()];
                sides[own].app.queue.push_back(message.into());
            }
            1 => sides[own].app.is_finished = true,
            2 => sides[own].write(script.number() * 8, now),
            3 | 4 => {
                let count = script.number() * if what & 2 == 0 { 1 } else { 64 };
                let wire = &mut sides[own].wire;
                let carried = wire.split_to(count.min(wire.len()));
                sides[other].inbox.extend_from_slice(&carried);
                sides[other].read(now);
            }
            5 => sides[own].alter(&mut script),
            6 => sides[own].end(script.byte()),
            _ => now = now + Duration::from_millis(u64::from(script.byte()) * 8),
        }
        check(&sides[0], &sides[1]);
        check(&sides[1], &sides[0]);
    }
}

fn check(side: &End, peer: &End) {
    if !side.is_confirmed {
        return;
    }
    assert!(side.read.len() <= peer.app.sent.len(), "more than was sent");
    for (read, sent) in side.read.iter().zip(&peer.app.sent) {
        assert_eq!(read, sent, "something else than was sent");
    }
    let terms = side.gate.terms();
    assert!(terms.is_some() && terms == peer.gate.terms(), "other terms than the peer's");
}

/// The check of a CONFIRM, to be measured.
#[derive(Debug)]
pub struct Confirmation {
    key: SharedKey,
    th: [u8; 32],
    hs: [u8; 32],
}

impl Confirmation {
    /// Takes the key, the hash of the transcript, and that of what was written before.
    pub fn new(key: &[u8; 32], th: &[u8; 32], hs: &[u8; 32]) -> Self {
        let key = SharedKey::from_bytes(key).expect("32 bytes");
        Self { key, th: *th, hs: *hs }
    }

    /// Returns the right MAC.
    pub fn mac(&self) -> [u8; 32] {
        *gate::confirmation(&self.key, &self.th, &self.hs).as_bytes()
    }

    /// Returns whether a MAC is the right one, as a session finds it out.
    pub fn verifies(&self, mac: &[u8]) -> bool {
        gate::is_confirmation(&self.key, &self.th, &self.hs, mac)
    }
}

/// One end of the handshake substream.
struct End {
    gate: Gate,
    app: App,
    /// Written, and not carried yet.
    wire: BytesMut,
    inbox: BytesMut,
    read: Vec<Bytes>,
    is_confirmed: bool,
    is_over: bool,
}

impl End {
    fn new(role: Role) -> Self {
        let identity =
            |role: Role| Identity::from_seed(&[if role == Role::Initiator { 1 } else { 2 }; 32]);
        let own = identity(role);
        let hedge =
            Hedge { identity: &own, entropy: &[3; 32], wall_ms: 0, counter: 0, binding: &[] };
        let suites = vec![Suite::ChaCha20Poly1305];
        let gate = Gate::new(Setup {
            role,
            ephemeral: hedge.ephemeral(role, &suites),
            peer: identity(role.other()).public_key(),
            identity: own.into(),
            aead: Arc::new(RustCrypto),
            suites,
            binding: Binding::None,
            padding: Padding::None,
            application: Vec::new(),
            now: Instant::ZERO,
        });
        Self {
            gate,
            app: App::default(),
            wire: BytesMut::new(),
            inbox: BytesMut::new(),
            read: Vec::new(),
            is_confirmed: false,
            is_over: false,
        }
    }

    fn write(&mut self, full: usize, now: Instant) {
        if !self.is_over {
            self.gate.commit();
            self.gate.write(&mut self.wire, full, now, &mut self.app);
        }
    }

    fn read(&mut self, now: Instant) {
        while !self.is_over {
            let before = self.inbox.len();
            match self.gate.read(&mut self.inbox, Messages::Taken, now) {
                Ok(Step::More { missing }) => {
                    assert!(missing > 0, "it waits for nothing");
                    return;
                }
                Ok(Step::Over) => return,
                Ok(Step::Message(message)) => self.read.push(message),
                Ok(Step::Confirmed) => self.is_confirmed = true,
                Ok(_) => {}
                Err(_) => self.is_over = true,
            }
            // A record may hold several frames, which come one by one.
            assert!(self.inbox.len() <= before, "it makes up bytes");
        }
    }

    /// The adversary has a go at what is on its way.
    fn alter(&mut self, script: &mut Script<'_>) {
        let (how, at, count) = (script.byte(), script.number(), script.number());
        let at = at.min(self.wire.len());
        let tail = self.wire.split_off(at);
        let (part, rest) = tail.split_at(count.min(tail.len()));
        match how % 4 {
            0 => {
                self.wire.extend(part.iter().map(|byte| byte ^ (1 << (how >> 5))));
                self.wire.extend_from_slice(rest);
            }
            1 => self.wire.extend_from_slice(rest),
            2 => {
                self.wire.extend_from_slice(part);
                self.wire.extend_from_slice(&tail);
            }
            _ => {
                self.wire.extend_from_slice(script.take(count));
                self.wire.extend_from_slice(&tail);
            }
        }
    }

    fn end(&mut self, code: u8) {
        if !self.is_over {
            self.gate.end(Close { code: u16::from(code), entries: Vec::new() });
        }
    }
}

#[derive(Default)]
struct App {
    queue: VecDeque<Bytes>,
    /// What the gate has taken.
    sent: Vec<Bytes>,
    is_finished: bool,
}

impl Application for App {
    fn next_message(&mut self) -> Option<Bytes> {
        let message = self.queue.pop_front()?;
        self.sent.push(message.clone());
        Some(message)
    }

    fn is_finished(&self) -> bool {
        self.is_finished
    }
}

/// A varint and the type.
const LONGEST_HEADER: usize = 8;
const MOST_STEPS: usize = 400;
