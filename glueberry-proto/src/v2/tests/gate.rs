//! The gate: every frame in every state, and two gates with each other in every order.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{App, gate, written};
use crate::time::Instant;
use crate::v2::agreement::Binding;
use crate::v2::control::{Abandon, Close};
use crate::v2::frame::{self, FrameType, MAX_APP};
use crate::v2::gate::{Gate, Messages, Step};
use crate::v2::record::{Kind, Sealer};
use crate::v2::{Role, Suite, Violation};
use crate::wire::StreamName;

const CHACHA: &[Suite] = &[Suite::ChaCha20Poly1305];

fn pair() -> (Gate, Gate) {
    let make = |role| gate(role, CHACHA, Binding::None);
    (make(Role::Initiator), make(Role::Responder))
}

/// A gate whose peer is the test: it has the peer's keys and writes what it likes.
struct Hostile {
    gate: Gate,
    peer: Gate,
    sealer: Option<Sealer>,
    now: Instant,
    messages: Messages,
}

/// The states of WIRE.md §11.1 that a transport which authenticates has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    Clear,
    Sealed,
    Finished,
    Over,
}

impl Hostile {
    /// Brings a gate to a state.
    fn at(role: Role, state: State) -> Self {
        let make = |role| gate(role, CHACHA, Binding::None);
        let (mut gate, peer) = (make(role), make(role.other()));
        let mut own = BytesMut::from(&written(&mut gate, &mut App::default())[..]);
        let mut hostile =
            Self { gate, peer, sealer: None, now: Instant::ZERO, messages: Messages::Taken };
        if state == State::First {
            return hostile;
        }
        let kex = written(&mut hostile.peer, &mut App::default());
        assert_eq!(hostile.feed(&kex), Ok(Step::Agreed));
        assert_eq!(hostile.peer.read(&mut own, Messages::Taken, Instant::ZERO), Ok(Step::Agreed));
        if state == State::Clear {
            return hostile;
        }
        let confirm = written(&mut hostile.peer, &mut App::default());
        assert_eq!(hostile.feed(&confirm), Ok(Step::Confirmed));
        let master = hostile.peer.take_master().unwrap();
        let cipher = hostile.peer.cipher().unwrap().clone();
        hostile.sealer = Some(Sealer::new(cipher, &master.control(role.other())));
        if state == State::Finished {
            assert_eq!(hostile.frame(FrameType::Finished, b""), Ok(Step::Finished));
        }
        if state == State::Over {
            let close = Close { code: 0, entries: Vec::new() };
            let body = close.emit();
            assert_eq!(hostile.frame(FrameType::Close, &body), Ok(Step::Closed(close)));
        }
        hostile
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<Step, Violation> {
        self.gate.read(&mut BytesMut::from(bytes), self.messages, self.now)
    }

    /// Sends a frame, in the clear or sealed as the state demands.
    fn frame(&mut self, kind: FrameType, body: &[u8]) -> Result<Step, Violation> {
        let mut out = BytesMut::new();
        frame::emit(kind, body, &mut out);
        if let Some(sealer) = &mut self.sealer {
            let mut record = BytesMut::new();
            let mut writer = sealer.write(&mut record, self.now);
            writer.put(&out);
            writer.finish();
            out = record;
        }
        self.feed(&out)
    }
}

/// What may happen to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Taken,
    Refused,
    Unread,
}

/// WIRE.md §11.1, without what a transport that authenticates doesn't have, nor a suite without KEM.
#[test]
fn the_table_of_frames() {
    use Cell::{Refused as R, Taken as T, Unread as U};
    let abandon = Abandon { instance: 0, name: StreamName::new("chat").unwrap() }.emit();
    let close = Close { code: 0, entries: Vec::new() }.emit();
    let states = [State::First, State::Clear, State::Sealed, State::Finished, State::Over];
    let table: [(FrameType, Vec<u8>, [Cell; 5]); 10] = [
        (FrameType::Kex, vec![0; 10], [T, R, R, R, U]),
        (FrameType::KemCiphertext, vec![0; 1088], [R, R, R, R, U]),
        (FrameType::Confirm, vec![0; 32], [R, T, R, R, U]),
        (FrameType::App, b"x".to_vec(), [R, T, T, R, U]),
        (FrameType::Finished, Vec::new(), [R, R, T, R, U]),
        (FrameType::Close, close, [R, R, T, T, U]),
        (FrameType::Abandon, abandon, [R, R, T, T, U]),
        (FrameType::Reserved(0x80), vec![1; 9], [R, R, T, T, U]),
        (FrameType::Reserved(0xff), Vec::new(), [R, R, T, T, U]),
        (FrameType::Abort, vec![0; 2], [T, T, R, R, U]),
    ];
    for role in [Role::Initiator, Role::Responder] {
        for (kind, body, cells) in &table {
            for (state, cell) in states.into_iter().zip(cells) {
                let result = Hostile::at(role, state).frame(*kind, body);
                // A KEX or a CONFIRM that is taken is refused for what is in it.
                let expected = match (cell, kind) {
                    (Cell::Refused, _) => Some(Err(Violation::UnexpectedFrame)),
                    (Cell::Unread, _) => Some(Ok(Step::Over)),
                    (Cell::Taken, FrameType::Kex) => Some(Err(Violation::BadFrame)),
                    (Cell::Taken, FrameType::Confirm) => Some(Err(Violation::BadConfirm)),
                    (Cell::Taken, _) => None,
                };
                match expected {
                    Some(expected) => assert_eq!(result, expected, "{kind:?} in {state:?}"),
                    None => assert!(result.is_ok(), "{kind:?} in {state:?}: {result:?}"),
                }
            }
        }
    }
}

/// A frame that is not allowed is refused when its type is there, whatever is announced.
#[test]
fn a_frame_is_refused_before_its_body_is_awaited() {
    let mut hostile = Hostile::at(Role::Responder, State::First);
    assert_eq!(hostile.feed(&[0x81, 0x80, 0x04, 0x10]), Err(Violation::UnexpectedFrame));
    let mut hostile = Hostile::at(Role::Responder, State::Clear);
    assert_eq!(hostile.feed(&[0x30, 0x01]), Err(Violation::UnexpectedFrame));
}

#[test]
fn dropped_messages_are_limited() {
    for state in [State::Clear, State::Sealed] {
        let mut hostile = Hostile::at(Role::Initiator, state);
        assert_eq!(hostile.frame(FrameType::App, b"x"), Ok(Step::Message("x".into())));
        hostile.messages = Messages::Dropped;
        let mut dropped = 0;
        let result = loop {
            match hostile.frame(FrameType::App, &[7; 4096]) {
                Ok(Step::Read) => dropped += 4096,
                other => break other,
            }
        };
        assert_eq!((result, dropped), (Err(Violation::Limit), MAX_APP));
    }
}

#[test]
fn control_frames_are_limited() {
    let mut hostile = Hostile::at(Role::Initiator, State::Sealed);
    for _ in 0..64 {
        assert_eq!(hostile.frame(FrameType::Reserved(0x90), b""), Ok(Step::Read));
    }
    assert_eq!(hostile.frame(FrameType::Reserved(0x90), b""), Err(Violation::Rate));
}

/// To change keys costs as much as to open many records.
#[test]
fn changes_of_keys_are_limited() {
    let mut hostile = Hostile::at(Role::Initiator, State::Sealed);
    let mut sealed_at = Instant::ZERO;
    let mut change = |hostile: &mut Hostile| {
        let mut out = BytesMut::new();
        // The second record of an epoch is its last, if it is old.
        for _ in 0..2 {
            sealed_at = sealed_at + Duration::from_secs(600);
            let sealer = hostile.sealer.as_mut().unwrap();
            sealer.write(&mut out, sealed_at).put_record(Kind::Data, b"");
        }
        hostile.feed(&out)
    };
    for _ in 0..64 {
        assert_eq!(change(&mut hostile), Ok(Step::More { missing: 1 }));
    }
    hostile.now = hostile.now + Duration::from_secs(1);
    for _ in 0..16 {
        assert_eq!(change(&mut hostile), Ok(Step::More { missing: 1 }));
    }
    assert_eq!(change(&mut hostile), Err(Violation::Rate));
}

#[test]
fn what_is_refused_in_a_key_exchange() {
    use crate::v2::kex::Kex;
    let honest = Kex { bindings: 1, suites: vec![1], ephemeral: [9; 32], kem_key: None };
    let refused = |change: &dyn Fn(&mut Kex)| {
        let mut hostile = Hostile::at(Role::Responder, State::First);
        let mut kex = honest.clone();
        change(&mut kex);
        hostile.frame(FrameType::Kex, &kex.emit()[1..])
    };
    assert_eq!(refused(&|_| {}), Ok(Step::Agreed));
    let own = *super::ephemeral(Role::Responder).public();
    let own_identity = super::identity(Role::Responder).public_key().to_x25519();
    let mut flipped = own;
    flipped[31] |= 0x80;
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    for ephemeral in [own, own_identity, flipped, prime, [0xff; 32], [0; 32]] {
        let result = refused(&|kex| kex.ephemeral = ephemeral);
        assert_eq!(result, Err(Violation::BadKey), "{ephemeral:02x?}");
    }
    assert_eq!(refused(&|kex| kex.suites = vec![2, 0x0102]).err(), Some(Violation::NoCommonSuite));
    assert_eq!(refused(&|kex| kex.bindings = 0b10).err(), Some(Violation::NoCommonBinding));
    assert_eq!(refused(&|kex| kex.bindings = 0xfd), Ok(Step::Agreed), "unknown bits");
}

/// Two sides on two connections have different exporter values, and so different keys.
#[test]
fn another_connection_is_not_confirmed() {
    let make = |role, value| gate(role, CHACHA, Binding::Exporter([value; 32]));
    for (values, expected) in [([1, 1], Ok(Step::Confirmed)), ([1, 2], Err(Violation::BadConfirm))]
    {
        let mut gates = [make(Role::Initiator, values[0]), make(Role::Responder, values[1])];
        let mut kex =
            gates.each_mut().map(|it| BytesMut::from(&written(it, &mut App::default())[..]));
        assert_eq!(gates[0].read(&mut kex[1], Messages::Taken, Instant::ZERO), Ok(Step::Agreed));
        let mut confirm = BytesMut::from(&written(&mut gates[0], &mut App::default())[..]);
        kex[0].unsplit(confirm.split());
        assert_eq!(gates[1].read(&mut kex[0], Messages::Taken, Instant::ZERO), Ok(Step::Agreed));
        assert_eq!(gates[1].read(&mut kex[0], Messages::Taken, Instant::ZERO), expected);
    }
}

/// What a side writes in the clear is never more than the other holds without its application, and a
/// full queue hides no confirmation.
#[test]
fn the_confirmation_is_read_whatever_the_application_does() {
    let (most, half) = (vec![1; MAX_APP], vec![2; MAX_APP / 2 + 1]);
    let small = vec![&b"x"[..]; 300];
    for (sends, in_the_clear) in
        [(vec![&most[..], b"last"], 1), (vec![&half, &half, b"last"], 2), (small, 256)]
    {
        let (mut initiator, mut responder) = pair();
        let mut app = App::sends(&sends);
        let mut to_responder = BytesMut::from(&written(&mut initiator, &mut app)[..]);
        assert_eq!(app.messages.len(), sends.len() - in_the_clear);
        let mut kex = BytesMut::from(&written(&mut responder, &mut App::default())[..]);
        let taken = initiator.read(&mut kex, Messages::Taken, Instant::ZERO);
        assert_eq!(taken, Ok(Step::Agreed));
        to_responder.extend_from_slice(&written(&mut initiator, &mut app));
        assert!(app.messages.is_empty(), "what had to wait is sealed");
        let mut read = |messages| responder.read(&mut to_responder, messages, Instant::ZERO);
        assert_eq!(read(Messages::Wait), Ok(Step::Agreed));
        for message in &sends[..in_the_clear] {
            assert_eq!(read(Messages::Wait), Ok(Step::Full));
            assert_eq!(read(Messages::Taken), Ok(Step::Message(message.to_vec().into())));
        }
        assert_eq!(read(Messages::Wait), Ok(Step::Confirmed));
        for message in &sends[in_the_clear..] {
            assert_eq!(read(Messages::Wait), Ok(Step::Full));
            assert_eq!(read(Messages::Taken), Ok(Step::Message(message.to_vec().into())));
        }
        assert!(matches!(read(Messages::Wait), Ok(Step::More { .. })));
    }
}

#[test]
fn codes_that_are_not_known_are_misbehaviour() {
    for (code, expected) in [(0, 0), (7, 7), (8, 5), (15, 5), (16, 16), (31, 31), (32, 5)] {
        let mut hostile = Hostile::at(Role::Responder, State::Sealed);
        let mut close = Close { code, entries: Vec::new() };
        let body = close.emit();
        close.code = expected;
        assert_eq!(hostile.frame(FrameType::Close, &body), Ok(Step::Closed(close)));
    }
}

#[test]
fn this_side_ends_in_the_clear_until_its_confirmation_is_written() {
    let close = Close { code: 21, entries: Vec::new() };
    let (mut initiator, _) = pair();
    initiator.end(close.clone());
    assert_eq!(written(&mut initiator, &mut App::default()), [3, 5, 0, 21]);
    assert!(initiator.is_written_over());
    assert!(written(&mut initiator, &mut App::sends(&[b"x"])).is_empty());
    let mut hostile = Hostile::at(Role::Responder, State::Sealed);
    let mut confirm = BytesMut::from(&written(&mut hostile.gate, &mut App::default())[..]);
    hostile.gate.end(close.clone());
    confirm.extend_from_slice(&written(&mut hostile.gate, &mut App::sends(&[b"x"])));
    let mut read = || hostile.peer.read(&mut confirm, Messages::Taken, Instant::ZERO);
    assert_eq!(read(), Ok(Step::Confirmed));
    assert_eq!(read(), Ok(Step::Closed(close)));
}

/// A side confirms no session that it may not keep, and ends it in the clear.
#[test]
fn nothing_is_confirmed_before_the_session_is_kept() {
    let mut out = BytesMut::new();
    let mut hostile = Hostile::at(Role::Responder, State::Sealed);
    let mut app = App::default();
    hostile.gate.write(&mut out, usize::MAX, Instant::ZERO, &mut app);
    assert!(out.is_empty());
    assert!(hostile.gate.commit(), "the keys are known");
    assert!(!hostile.gate.commit(), "it is kept already");
    hostile.gate.write(&mut out, usize::MAX, Instant::ZERO, &mut app);
    assert_eq!(hostile.peer.read(&mut out, Messages::Taken, Instant::ZERO), Ok(Step::Confirmed));

    let mut hostile = Hostile::at(Role::Responder, State::Sealed);
    hostile.gate.end(Close { code: 3, entries: Vec::new() });
    hostile.gate.write(&mut out, usize::MAX, Instant::ZERO, &mut app);
    assert_eq!(hostile.peer.read(&mut out, Messages::Taken, Instant::ZERO), Ok(Step::Aborted(3)));

    let (mut initiator, _) = pair();
    assert!(!initiator.commit(), "there are no keys");
}

/// What one of two sides does next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Send,
    Finish,
    Write,
    Read(usize),
}

fn moves() -> impl Strategy<Value = Vec<(bool, Move)>> {
    let each = prop_oneof![
        2 => Just(Move::Send),
        1 => Just(Move::Finish),
        3 => Just(Move::Write),
        4 => (1..200_usize).prop_map(Move::Read),
    ];
    prop::collection::vec((any::<bool>(), each), 0..60)
}

/// One of two sides.
struct Side {
    gate: Gate,
    app: App,
    sent: Vec<Bytes>,
    /// On its way from the other side.
    wire: BytesMut,
    arrived: BytesMut,
    messages: Vec<Bytes>,
}

impl Side {
    fn new(gate: Gate) -> Self {
        let (wire, arrived) = (BytesMut::new(), BytesMut::new());
        Self { gate, app: App::default(), sent: Vec::new(), wire, arrived, messages: Vec::new() }
    }

    fn read(&mut self, len: usize) -> Result<(), Violation> {
        let piece = self.wire.split_to(len.min(self.wire.len()));
        self.arrived.unsplit(piece);
        loop {
            match self.gate.read(&mut self.arrived, Messages::Taken, Instant::ZERO)? {
                Step::More { .. } | Step::Over => return Ok(()),
                Step::Message(message) => self.messages.push(message),
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the order of calls and bytes, both sides confirm each other and each message
    /// arrives in its order.
    #[test]
    fn both_get_there_in_every_order(moves in moves()) {
        let (initiator, responder) = pair();
        let mut sides = [Side::new(initiator), Side::new(responder)];
        let rest = (0..8).flat_map(|_| {
            [true, false].map(|side| [(side, Move::Write), (side, Move::Read(usize::MAX))]).concat()
        });
        let finish = [true, false].map(|side| (side, Move::Finish));
        for (at, next) in moves.into_iter().chain(finish).chain(rest) {
            let [side, other] = {
                let [a, b] = &mut sides;
                if at { [a, b] } else { [b, a] }
            };
            match next {
                Move::Send if !side.app.is_finished => {
                    let message = Bytes::from(vec![7; 3 * side.sent.len()]);
                    side.sent.push(message.clone());
                    side.app.messages.push(message);
                }
                Move::Send => {}
                Move::Finish => side.app.is_finished = true,
                Move::Write => {
                    let bytes = written(&mut side.gate, &mut side.app);
                    other.wire.extend_from_slice(&bytes);
                }
                Move::Read(len) => side.read(len).unwrap(),
            }
        }
        let [a, b] = &mut sides;
        for side in [&a, &b] {
            prop_assert!(side.gate.is_confirmed());
            prop_assert!(side.app.messages.is_empty());
        }
        prop_assert_eq!(&a.messages, &b.sent);
        prop_assert_eq!(&b.messages, &a.sent);
        prop_assert_eq!(a.gate.terms(), b.gate.terms());
        prop_assert_eq!(a.gate.exporter(), b.gate.exporter());
        prop_assert!(a.gate.take_master().is_some());
        prop_assert!(a.gate.take_master().is_none());
    }

    /// One altered bit anywhere in what was exchanged in the clear, and no side confirms.
    #[test]
    fn what_is_altered_in_the_clear_is_not_confirmed(at: prop::sample::Index, bit in 0..8_u32) {
        let (mut initiator, mut responder) = pair();
        let app = || App::sends(&[b"hello", b""]);
        let mut from_initiator = written(&mut initiator, &mut app());
        let at = at.index(from_initiator.len());
        from_initiator[at] ^= 1 << bit;
        let mut buf = BytesMut::from(&written(&mut responder, &mut app())[..]);
        while !matches!(initiator.read(&mut buf, Messages::Taken, Instant::ZERO), Ok(Step::More { .. })) {}
        from_initiator.extend_from_slice(&written(&mut initiator, &mut App::default()));
        let mut buf = BytesMut::from(&from_initiator[..]);
        loop {
            match responder.read(&mut buf, Messages::Taken, Instant::ZERO) {
                Ok(Step::More { .. } | Step::Over | Step::Aborted(_)) | Err(_) => break,
                Ok(_) => {}
            }
        }
        prop_assert!(!responder.is_confirmed());
    }

    #[test]
    fn anything_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300), sealed: bool) {
        let state = if sealed { State::Sealed } else { State::Clear };
        let mut hostile = Hostile::at(Role::Initiator, state);
        let mut buf = BytesMut::from(&bytes[..]);
        while let Ok(step) = hostile.gate.read(&mut buf, Messages::Taken, Instant::ZERO) {
            if matches!(step, Step::More { .. } | Step::Over | Step::Aborted(_)) {
                break;
            }
        }
    }
}
