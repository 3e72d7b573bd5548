//! A session whose peer is a case of the vectors.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{array, bytes, list, text};
use crate::session::{Event, Session};
use crate::v2::agreement::{Binding, Ephemeral};
use crate::v2::gate::{Gate, Setup};
use crate::v2::kem::{self, Share};
use crate::v2::kex::Kex;
use crate::v2::reader::TOO_LARGE;
use crate::v2::{Padding, Role, Suite};
use crate::{
    Action, Admission, CloseReason, Config, Identity, Instant, Naming, NewConnection, Node,
    NodeAction, Origin, PeerMisbehaved, Profile, PublicKey, Seed, StreamName, SubstreamBuffer,
    SubstreamEnd, SubstreamId,
};

/// One session whose peer are the vectors.
pub(super) struct Tested {
    node: Node,
    pub(super) session: Session,
    peer: PublicKey,
    pub(super) now: Instant,
    pub(super) channel: SubstreamId,
    pub(super) buffers: BTreeMap<SubstreamId, SubstreamBuffer>,
    names: Vec<StreamName>,
    is_granted: bool,
    pub(super) actions: Vec<Action>,
    pub(super) events: Vec<Event>,
    pub(super) written: BytesMut,
}

impl Tested {
    /// Makes the session of a side of a case. `None` if it needs what this build does not have.
    pub(super) fn new(case: &Value, side: &str) -> Option<Self> {
        let own = &case[side];
        let role = if side == "i" { Role::Initiator } else { Role::Responder };
        let other = &case[if side == "i" { "r" } else { "i" }];
        if case["authenticated"] != true {
            return None;
        }
        let mut config =
            Config { profiles: vec![Profile::V2], hardware_aes: true, ..Config::default() };
        let mut names: Vec<StreamName> = list(own, "names")
            .iter()
            .map(|name| StreamName::new(name.as_str().unwrap()).unwrap())
            .collect();
        if names.is_empty() {
            names.push(StreamName::new("chat").unwrap());
        }
        config.streams.clone_from(&names);
        config.receive_queue = 1 << 20;
        config.receive_queue_bytes = 1 << 28;
        let now = Instant::ZERO;
        let identity = Identity::from_seed(&array(own, "seed"));
        let peer = Identity::from_seed(&array(other, "seed")).public_key();
        let mut node = Node::new(now, identity, config, Seed::from_bytes([1; 32])).unwrap();
        let connection =
            NewConnection { peer, origin: Origin::Accepted, naming: Naming::Negotiated };
        let Admission::Accept(session) = node.handle_connection(now, connection) else { panic!() };
        let mut session = *session;
        let handshake = Profile::V2.handshake_id();
        let channel = match role {
            Role::Responder => session.handle_accepted(now, Some(handshake)),
            Role::Initiator => {
                session.open_handshake();
                let opening =
                    std::iter::from_fn(|| session.poll_action()).find_map(|it| match it {
                        Action::OpenSubstream { substream, .. } => Some(substream),
                        _ => None,
                    });
                session.handle_opened(now, opening.unwrap(), Some(handshake));
                opening.unwrap()
            }
        };
        let mut tested = Self {
            node,
            session,
            peer,
            now,
            channel,
            buffers: BTreeMap::from([(channel, SubstreamBuffer::new(channel))]),
            names,
            is_granted: false,
            actions: Vec::new(),
            events: Vec::new(),
            written: BytesMut::new(),
        };
        tested.session.handshake.gate = Some(Box::new(tested.gate(case, side, role)?));
        tested.flush();
        Some(tested)
    }

    /// Makes the gate with the keys and the offers of the vectors.
    fn gate(&self, case: &Value, side: &str, role: Role) -> Option<Gate> {
        let own = &case[side];
        let codes: Vec<u16> = list(own, "suites")
            .iter()
            .map(|suite| u16::try_from(suite.as_u64().unwrap()).unwrap())
            .collect();
        if codes.iter().any(|code| matches!(code, 0x0101 | 0x0102)) && !kem::IS_AVAILABLE {
            return None;
        }
        let is_known = |suite: &Suite| codes.contains(&suite.code());
        let suites: Vec<Suite> = Suite::RANKED.into_iter().filter(is_known).collect();
        if suites.iter().any(|suite| matches!(suite, Suite::Aes256Gcm | Suite::MlKem768Aes256Gcm))
            && !cfg!(any(feature = "aes-gcm", feature = "aws-lc-rs"))
        {
            return None;
        }
        let value = bytes(own, "binding_value");
        let binding = value.try_into().map_or(Binding::None, Binding::Exporter);
        let is_hybrid = suites.iter().any(|suite| suite.is_post_quantum());
        let (coins, seed) = (bytes(own, "kem_coins"), bytes(own, "kem_seed"));
        let share = Share::from_bytes(role, &coins, &seed).filter(|_| is_hybrid);
        let ephemeral = Ephemeral::from_private(&array(own, "ephemeral_private"), share);
        let kex = Kex {
            bindings: u8::try_from(own["binding_mask"].as_u64().unwrap()).unwrap(),
            suites: codes,
            ephemeral: *ephemeral.public(),
            kem_key: ephemeral.share().and_then(Share::encapsulation_key),
        };
        let mut frame = kex.emit();
        for extension in list(own, "extensions") {
            let (kind, value) = match extension {
                Value::Array(pair) => (&pair[0], &pair[1]),
                other => (&other["type"], &other["value"]),
            };
            let value = hex::decode(value.as_str().unwrap()).unwrap();
            frame.extend(u16::try_from(kind.as_u64().unwrap()).unwrap().to_be_bytes());
            frame.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            frame.extend(value);
        }
        let params = &self.session.params;
        let mut gate = Gate::new(Setup {
            role,
            identity: params.identity.clone(),
            peer: params.peer,
            aead: params.aead.clone(),
            suites,
            ephemeral,
            binding,
            padding: Padding::None,
            application: bytes(own, "app_context"),
            now: self.now,
        });
        if case[format!("kex_{side}")].is_string() {
            frame = bytes(case, &format!("kex_{side}"));
        }
        gate.set_kex(frame);
        Some(gate)
    }

    /// Takes actions, and carries messages between session and node once it is granted.
    pub(super) fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(action) = self.session.poll_action() {
                moved = true;
                match action {
                    Action::Forward(message) => {
                        let id = self.session.id();
                        self.node.handle_session_message(self.now, id, message);
                    }
                    Action::ResumeRead(id) => {
                        if let Some(buffer) = self.buffers.get_mut(&id) {
                            buffer.resume(&mut self.session, self.now);
                        }
                    }
                    other => self.actions.push(other),
                }
            }
            while self.is_granted
                && let Some(action) = self.node.poll_action()
            {
                moved = true;
                if let NodeAction::Forward { message, .. } = action {
                    self.session.handle_node_message(self.now, message);
                }
            }
            if !moved {
                break;
            }
        }
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
    }

    /// Writes what is due on the channel.
    pub(super) fn flush(&mut self) {
        while self.session.poll_write(self.channel, &mut self.written, usize::MAX) > 0 {}
        self.settle();
    }

    pub(super) fn feed(&mut self, id: SubstreamId, bytes: &[u8]) {
        let buffer = self.buffers.get_mut(&id).unwrap();
        buffer.append(&mut self.session, self.now, bytes);
        buffer.received(&mut self.session, self.now);
        self.settle();
    }

    pub(super) fn end(&mut self, id: SubstreamId, end: &Value) {
        let end = if end == "fin" { SubstreamEnd::Finished } else { SubstreamEnd::Reset };
        let buffer = self.buffers.get_mut(&id).unwrap();
        buffer.ended(&mut self.session, self.now, end);
        self.settle();
    }

    /// Carries out a call. False if there is none of that name.
    pub(super) fn call(&mut self, step: &Value) -> bool {
        match text(step, "call") {
            "connected" => self.is_granted = true,
            "send_handshake" => {
                let message = Bytes::from(bytes(step, "message"));
                self.session.send_handshake(self.now, message).unwrap();
            }
            "prepare" => {
                assert_eq!(bytes(step, "key"), self.peer.as_bytes());
                let names = self.names.clone();
                self.session.prepare_streams(self.now, self.peer, &names).unwrap();
            }
            "finalize" => self.session.finalize_handshake(self.now).unwrap(),
            "reject" => self.session.reject_handshake(self.now, ""),
            _ => return false,
        }
        self.settle();
        // The vectors write at once what is not sealed.
        if self.session.handshake.gate().is_some_and(|gate| gate.terms().is_none()) {
            self.flush();
        }
        true
    }

    pub(super) fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(message) = self.session.poll_handshake_message() {
            heard.push(hex::encode(message));
            self.settle();
        }
        heard
    }

    pub(super) fn received(&mut self) -> Vec<(String, String)> {
        let mut received = Vec::new();
        for name in self.names.clone() {
            while let Some(message) = self.session.poll_message(&name) {
                received.push((name.as_str().to_owned(), hex::encode(message)));
                self.settle();
            }
        }
        received
    }

    /// Returns the code with which the session ends, if it does.
    pub(super) fn ended(&self) -> Option<u64> {
        let closed = self.events.iter().find_map(|event| match event {
            Event::Closed(closed) => Some(&closed.reason),
            _ => None,
        });
        let reason = closed.or_else(|| {
            self.session.state.drain_reason().filter(|_| self.session.state.is_ending())
        })?;
        Some(match reason {
            CloseReason::Misbehaved(PeerMisbehaved::V2 { violation, .. }) => {
                violation.code().into()
            }
            CloseReason::Misbehaved(PeerMisbehaved::MessageTooLarge { .. }) => TOO_LARGE,
            CloseReason::EndedByPeer { code } => (*code).into(),
            CloseReason::ConnectionLost(crate::ConnectionLost::ClosedByPeer { code }) => *code,
            CloseReason::HandshakeLost => 2,
            CloseReason::Rejected(_) => 1,
            other => panic!("{other:?}"),
        })
    }
}
