//! Sessions against the vectors of an independent implementation (`tests/vectors/v2`, whose README
//! has the format): every byte, every message, every end.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use crate::session::{Event, Session};
use crate::v2::agreement::{Binding, Ephemeral};
use crate::v2::gate::{Gate, Setup};
use crate::v2::kex::Kex;
use crate::v2::{Role, Suite};
use crate::{
    Action, Admission, CloseReason, Config, Identity, Instant, Naming, NewConnection, Node,
    NodeAction, Origin, PeerMisbehaved, Profile, PublicKey, ResetCode, Seed, StreamName,
    SubstreamBuffer, SubstreamEnd, SubstreamId,
};

macro_rules! vectors {
    ($file:literal) => {
        serde_json::from_str::<Vec<Value>>(include_str!(concat!(
            "../../../tests/vectors/v2/",
            $file,
            ".json"
        )))
        .unwrap()
    };
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(value, field)).unwrap()
}

fn array(value: &Value, field: &str) -> [u8; 32] {
    bytes(value, field).try_into().unwrap()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// One session whose peer are the vectors.
struct Tested {
    node: Node,
    session: Session,
    peer: PublicKey,
    now: Instant,
    channel: SubstreamId,
    buffers: BTreeMap<SubstreamId, SubstreamBuffer>,
    names: Vec<StreamName>,
    is_granted: bool,
    actions: Vec<Action>,
    events: Vec<Event>,
    written: BytesMut,
}

impl Tested {
    /// Makes the session of a side of a case. `None` if it needs what this build does not have.
    fn new(case: &Value, side: &str) -> Option<Self> {
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
        let is_known = |suite: &Suite| codes.contains(&suite.code()) && !suite.is_post_quantum();
        let suites: Vec<Suite> = Suite::RANKED.into_iter().filter(is_known).collect();
        if suites.contains(&Suite::Aes256Gcm)
            && !cfg!(any(feature = "aes-gcm", feature = "aws-lc-rs"))
        {
            return None;
        }
        let value = bytes(own, "binding_value");
        let binding = value.try_into().map_or(Binding::None, Binding::Exporter);
        let ephemeral = Ephemeral::from_private(&array(own, "ephemeral_private"));
        let kex = Kex {
            bindings: u8::try_from(own["binding_mask"].as_u64().unwrap()).unwrap(),
            suites: codes,
            ephemeral: *ephemeral.public(),
            kem_key: None,
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
    fn settle(&mut self) {
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
    fn flush(&mut self) {
        while self.session.poll_write(self.channel, &mut self.written, usize::MAX) > 0 {}
        self.settle();
    }

    fn feed(&mut self, id: SubstreamId, bytes: &[u8]) {
        let buffer = self.buffers.get_mut(&id).unwrap();
        buffer.append(&mut self.session, self.now, bytes);
        buffer.received(&mut self.session, self.now);
        self.settle();
    }

    fn end(&mut self, id: SubstreamId, end: &Value) {
        let end = if end == "fin" { SubstreamEnd::Finished } else { SubstreamEnd::Reset };
        let buffer = self.buffers.get_mut(&id).unwrap();
        buffer.ended(&mut self.session, self.now, end);
        self.settle();
    }

    /// Carries out a call. False if there is none of that name.
    fn call(&mut self, step: &Value) -> bool {
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

    fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(message) = self.session.poll_handshake_message() {
            heard.push(hex::encode(message));
            self.settle();
        }
        heard
    }

    fn received(&mut self) -> Vec<(String, String)> {
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
    fn ended(&self) -> Option<u64> {
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
            CloseReason::EndedByPeer { code } => (*code).into(),
            CloseReason::ConnectionLost(crate::ConnectionLost::ClosedByPeer { code }) => *code,
            CloseReason::HandshakeLost => 2,
            CloseReason::Rejected(_) => 1,
            other => panic!("{other:?}"),
        })
    }
}

/// Runs one side of a whole handshake; returns the session, if all of it could be run.
fn run_handshake(case: &Value, side: &str) -> Option<Tested> {
    let name = text(case, "name");
    if case["suite"].as_u64().unwrap() > 0xff
        || !list(case, "steps").iter().all(|step| {
            step["call"] != "end" && (step["call"] != "write_record" || step["side"] != side)
        })
    {
        return None;
    }
    let mut tested = Tested::new(case, side)?;
    for (at, step) in list(case, "steps").iter().enumerate() {
        let is_own = step["side"] == side;
        let context = format!("{name}, {side}, step {at}");
        if step["call"].is_string() {
            assert!(!is_own || tested.call(step), "{context}");
        } else if is_own {
            tested.flush();
            assert_eq!(hex::encode(tested.written.split()), text(step, "writes"), "{context}");
        } else {
            tested.feed(tested.channel, &bytes(step, "writes"));
            let expected: Vec<&str> =
                list(step, "then_messages").iter().map(|it| it.as_str().unwrap()).collect();
            assert_eq!(tested.heard(), expected, "{context}");
            if let Some(verified) = step["then_verified"].as_bool() {
                let gate = tested.session.handshake.gate().unwrap();
                assert_eq!(gate.is_confirmed(), verified, "{context}");
            }
        }
        assert_eq!(tested.ended(), None, "{context}");
    }
    let gate = tested.session.handshake.gate().unwrap();
    let terms = gate.terms().unwrap();
    assert_eq!(terms.session[..], bytes(case, "sid"), "{name}");
    assert_eq!(gate.exporter().unwrap().as_bytes()[..], bytes(case, "exporter"), "{name}");
    assert_eq!(u64::from(terms.suite.code()), case["suite"].as_u64().unwrap(), "{name}");
    assert!(tested.session.is_established(), "{name}");
    Some(tested)
}

#[test]
fn whole_handshakes() {
    let mut run = Vec::new();
    for case in vectors!("handshakes") {
        for side in ["i", "r"] {
            if run_handshake(&case, side).is_some() {
                run.push(format!("{} {side}", text(&case, "name")));
            }
        }
    }
    assert!(run.len() >= 12, "{run:?}");
}

#[test]
fn accepted_and_refused_handshakes() {
    let mut run = 0;
    for case in [vectors!("handshake_accepted"), vectors!("handshake_errors")].concat() {
        let (name, side) = (text(&case, "name"), text(&case, "side"));
        let needs_kem = ["i", "r"].iter().all(|it| {
            list(&case[*it], "suites").iter().any(|suite| matches!(suite.as_u64(), Some(257 | 258)))
        }) || list(&case[side], "suites")
            .iter()
            .any(|it| matches!(it.as_u64(), Some(257 | 258)));
        let Some(mut tested) = Tested::new(&case, side).filter(|_| !needs_kem) else {
            continue;
        };
        run += 1;
        assert_eq!(hex::encode(tested.written.split()), text(&case, "first_writes"), "{name}");
        for (at, step) in list(&case, "steps").iter().enumerate() {
            let context = format!("{name}, {side}, step {at}");
            if step["call"].is_string() {
                assert!(tested.call(step), "{context}");
            } else if step["connected"].is_boolean() {
                panic!("{context}");
            } else if step["reads"].is_string() {
                tested.feed(tested.channel, &bytes(step, "reads"));
            } else {
                tested.end(tested.channel, &step["control_ends"]);
            }
            let heard = tested.heard();
            if step["then_handshake_messages"].is_array() {
                let expected: Vec<&str> = list(step, "then_handshake_messages")
                    .iter()
                    .map(|it| it.as_str().unwrap())
                    .collect();
                assert_eq!(heard, expected, "{context}");
            }
            assert_eq!(tested.ended(), step["then_ended"].as_u64(), "{context}");
            tested.flush();
            let written = hex::encode(tested.written.split());
            // A CLOSE is one possible record.
            if step["then_ended"].is_null() || written.len() == 8 {
                assert_eq!(written, step["then_writes"].as_str().unwrap_or(""), "{context}");
            }
        }
    }
    assert!(run >= 80, "{run}");
}

/// Runs what happens to the substreams of a stream.
fn run_stream(case: &Value, handshakes: &[Value]) -> bool {
    let name = text(case, "name");
    let is_meant = |it: &&Value| it["name"] == case["handshake"];
    let handshake = handshakes.iter().find(is_meant).unwrap();
    let side = if case["direction"] == 0 { "r" } else { "i" };
    let Some(mut tested) = run_handshake(handshake, side) else {
        return false;
    };
    if let Some(limit) = case["message_limit"].as_u64() {
        let config = std::sync::Arc::make_mut(&mut tested.session.params.config);
        config.max_message_size = usize::try_from(limit).unwrap();
    }
    tested.events.clear();
    let mut substreams: BTreeMap<&str, SubstreamId> = BTreeMap::new();
    for (at, step) in list(case, "steps").iter().enumerate() {
        let context = format!("{name}, step {at}");
        tested.actions.clear();
        tested.events.clear();
        if let Some(stream) = step["agreed"].as_str() {
            let id = Profile::V2.stream_id(StreamName::new(stream).unwrap());
            let is_known = tested.session.protocols().contains(&id);
            if step["then_accepted"] == false {
                assert!(!is_known, "{context}");
                continue;
            }
            assert!(is_known, "{context}");
            let id = tested.session.handle_accepted(tested.now, Some(id));
            tested.buffers.insert(id, SubstreamBuffer::new(id));
            substreams.insert(text(step, "substream"), id);
            tested.settle();
        } else if step["bytes"].is_string() {
            tested.feed(substreams[text(step, "substream")], &bytes(step, "bytes"));
        } else if step["end"].is_string() {
            tested.end(substreams[text(step, "substream")], &step["end"]);
        } else if let Some(millis) = step["wait"].as_u64() {
            tested.now = tested.now + Duration::from_millis(millis);
            tested.session.handle_timeout(tested.now);
            tested.settle();
        } else {
            tested.feed(tested.channel, &bytes(step, "control_record"));
        }
        let received = tested.received();
        let expected: Vec<(String, String)> = list(step, "then_messages")
            .iter()
            .map(|it| (it[0].as_str().unwrap().to_owned(), it[1].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(tested.ended(), step["then_ended"].as_u64(), "{context}");
        if step["then_ended"].is_u64() {
            // Whole messages ahead of the violation, in the same record, are delivered or not.
            assert!(received.starts_with(&expected), "{context}");
            return true;
        }
        assert_eq!(received, expected, "{context}");
        check_reports(&tested, step, &substreams, &context);
    }
    let stream = StreamName::new(text(case, "stream")).unwrap();
    let stream = tested.session.streams.get_mut(&stream).unwrap();
    let received = stream.incoming.as_ref().unwrap().received();
    assert_eq!(Some(received.next), case["next"].as_u64(), "{name}");
    assert_eq!(Some(received.lost), case["lost"].as_u64(), "{name}");
    true
}

fn check_reports(
    tested: &Tested,
    step: &Value,
    substreams: &BTreeMap<&str, SubstreamId>,
    context: &str,
) {
    let reports = list(step, "then_reports");
    let lost: u64 =
        reports.iter().filter(|it| it[0] == "lost").map(|it| it[2].as_u64().unwrap()).sum();
    let told: u64 = tested
        .events
        .iter()
        .map(|event| if let Event::MessagesLost { messages, .. } = event { *messages } else { 0 })
        .sum();
    assert_eq!(told, lost, "{context}");
    let is_truncated = reports.iter().any(|it| it[0] == "truncated");
    let told = tested.events.iter().any(|it| matches!(it, Event::StreamTruncated { .. }));
    assert_eq!(told, is_truncated, "{context}");

    let id = |name: &Value| substreams[name.as_str().unwrap()];
    let mut finished: Vec<SubstreamId> = list(step, "then_fin").iter().map(id).collect();
    finished.sort_unstable();
    let mut told: Vec<SubstreamId> = tested
        .actions
        .iter()
        .filter_map(|it| if let Action::Finish(id) = it { Some(*id) } else { None })
        .collect();
    told.sort_unstable();
    assert_eq!(told, finished, "{context}");
    let told = tested.actions.iter().filter_map(|it| match it {
        Action::Reset { substream, code } => Some((*substream, u64::from(code.as_u32()))),
        _ => None,
    });
    let expected: Vec<(SubstreamId, u64)> =
        list(step, "then_reset").iter().map(|it| (id(&it[0]), it[1].as_u64().unwrap())).collect();
    // What is left of a substream that did not end cleanly is reset, which the vectors don't have.
    let is_truncated = is_truncated || step["end"].is_string();
    let told: Vec<_> = told
        .filter(|(_, code)| {
            !is_truncated || *code != u64::from(ResetCode::Refused.as_u32()) || !expected.is_empty()
        })
        .collect();
    assert_eq!(told, expected, "{context}");
}

#[test]
fn choices() {
    let cases = vectors!("choices");
    for case in &cases {
        let codes = |of: usize| -> Vec<u16> {
            let codes = case["suites"][of].as_array().unwrap().iter();
            codes.map(|code| u16::try_from(code.as_u64().unwrap()).unwrap()).collect()
        };
        let ours: Vec<Suite> =
            Suite::RANKED.into_iter().filter(|it| codes(0).contains(&it.code())).collect();
        let suite = Suite::choose(&ours, &codes(1)).map(|it| u64::from(it.code()));
        let mask = |of: usize| u8::try_from(case["masks"][of].as_u64().unwrap()).unwrap();
        let binding = Binding::Exporter([7; 32]).choose(mask(0), mask(1)).ok();
        if case["suite"].is_u64() {
            assert_eq!(suite, case["suite"].as_u64(), "{case}");
        }
        if case["binding_type"].is_u64() {
            let kind = binding.map(|it| u64::from(it.kind()));
            assert_eq!(kind, case["binding_type"].as_u64(), "{case}");
        }
    }
    assert!(!cases.is_empty());
}

/// When the sender must change keys, and what the receiver makes of a record that it sends.
#[test]
fn epochs() {
    use crate::crypto::{RustCrypto, SharedKey};
    use crate::v2::record::{Cipher, Opener, Sealer};

    let all: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/v2/epochs.json")).unwrap();
    let secret = SharedKey::from_bytes(&[3; 32]).unwrap();
    let cipher = Cipher { aead: std::sync::Arc::new(RustCrypto), suite: Suite::ChaCha20Poly1305 };
    let mut run = 0;
    for step in list(&all, "steps") {
        let number = |field: &str| step[field].as_u64().unwrap();
        let mut sealer = Sealer::new(cipher.clone(), &secret);
        let mut opener = Opener::new(cipher.clone(), &secret);
        sealer.set_counts(number("counter"), number("blocks"));
        opener.set_counts(number("counter"), number("blocks"));
        let mut out = BytesMut::new();
        let mut writer = sealer.write(&mut out, Instant::ZERO);
        let slice = vec![0; usize::try_from(number("len")).unwrap() - 17];
        writer.put_record(crate::v2::record::Kind::Data, &slice);
        writer.finish();
        let opened = opener.open(&mut out);
        let is_last = out[2] & 0x80 != 0;
        assert_eq!(Some(is_last), step["sender_must_flag"].as_bool(), "{step}");
        if Some(is_last) != step["last"].as_bool() {
            continue;
        }
        run += 1;
        match text(step, "receiver") {
            "next" | "rekey" => assert!(opened.is_ok(), "{step}"),
            _ => assert_eq!(opened, Err(crate::Violation::EpochLimit), "{step}"),
        }
    }
    assert!(run > 5, "{run}");
}

#[test]
fn streams() {
    let handshakes = vectors!("handshakes");
    let cases = [
        vectors!("streams"),
        vectors!("boundaries"),
        vectors!("instances"),
        vectors!("stream_errors"),
    ]
    .concat();
    // Every case that fails is named.
    let (mut run, mut failed) = (0, Vec::new());
    for case in &cases {
        match std::panic::catch_unwind(|| run_stream(case, &handshakes)) {
            Ok(is_run) => run += usize::from(is_run),
            Err(_) => failed.push(text(case, "name")),
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(run >= 150, "{run} of {}", cases.len());
}
