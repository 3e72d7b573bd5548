//! Tests of the pieces together: against WIRE.md's examples, and against each other.

mod document;
mod gate;
mod records;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::Role;
use super::agreement::{Binding, Ephemeral};
use super::control::Received;
use super::gate::{Application, Gate, Setup};
use super::reader::Sink;
use super::suite::Suite;
use crate::crypto::{Identity, RustCrypto};
use crate::time::Instant;
use crate::v2::Padding;

/// The hexadecimal blocks of WIRE.md, by name.
fn blocks() -> BTreeMap<String, Vec<u8>> {
    let text = include_str!("../../../WIRE.md");
    let mut blocks = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("```hex name=") {
            let digits: String = lines.by_ref().take_while(|line| *line != "```").collect();
            let bytes = hex::decode(digits.replace(char::is_whitespace, "")).unwrap();
            assert!(blocks.insert(name.to_owned(), bytes).is_none(), "{name} is there twice");
        }
    }
    blocks
}

fn identity(role: Role) -> Identity {
    Identity::from_seed(&match role {
        Role::Initiator => [0x11; 32],
        Role::Responder => [0x22; 32],
    })
}

fn ephemeral(role: Role) -> Ephemeral {
    let private = match role {
        Role::Initiator => [0x33; 32],
        Role::Responder => [0x44; 32],
    };
    Ephemeral::from_private(&private, None)
}

/// A gate with the keys of WIRE.md's example.
fn gate(role: Role, suites: &[Suite], binding: Binding) -> Gate {
    Gate::new(Setup {
        role,
        identity: identity(role).into(),
        peer: identity(role.other()).public_key(),
        aead: std::sync::Arc::new(RustCrypto),
        suites: suites.to_vec(),
        ephemeral: ephemeral(role),
        binding,
        padding: Padding::None,
        application: Vec::new(),
        now: Instant::ZERO,
    })
}

/// An application whose handshake messages are given.
#[derive(Debug, Default)]
struct App {
    messages: Vec<Bytes>,
    is_finished: bool,
}

impl Application for App {
    fn next_message(&mut self) -> Option<Bytes> {
        (!self.messages.is_empty()).then(|| self.messages.remove(0))
    }

    fn is_finished(&self) -> bool {
        self.is_finished
    }
}

impl App {
    fn sends(messages: &[&[u8]]) -> Self {
        let messages = messages.iter().map(|it| Bytes::copy_from_slice(it)).collect();
        Self { messages, is_finished: false }
    }
}

/// Has a gate write all that it has. Its side keeps the session.
fn written(gate: &mut Gate, app: &mut App) -> Vec<u8> {
    gate.commit();
    let mut out = BytesMut::new();
    gate.write(&mut out, usize::MAX, Instant::ZERO, app);
    out.to_vec()
}

/// What a stream has received.
#[derive(Debug, Default)]
struct Log {
    messages: Vec<Bytes>,
    cost: usize,
    lost: u64,
    received: Received,
    /// How many messages there is room for.
    room: Option<usize>,
}

impl Sink for Log {
    fn admits(&self, _: usize) -> bool {
        self.room.is_none_or(|room| self.messages.len() < room)
    }

    fn expect(&mut self, _: usize) {}

    fn message(&mut self, message: Bytes, cost: usize) {
        self.messages.push(message);
        self.cost += cost;
    }

    fn lost(&mut self, messages: u64) {
        self.lost += messages;
    }
}
