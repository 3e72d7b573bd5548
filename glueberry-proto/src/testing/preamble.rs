//! Name preambles of a peer, cut at any byte.

use bytes::BytesMut;

use super::script::Script;
use crate::wire::{
    Answer, MAX_ID_LEN, PreambleError, Profile, Proposal, ProtocolId, StreamName, StreamVersion,
    emit_acceptance, emit_proposal, emit_refusal, parse_answer, parse_proposal,
};

/// Parses bytes as a proposal, and as the answer to one of several proposals.
pub fn fuzz_preamble(data: &[u8]) {
    let mut script = Script::new(data);
    let proposed = proposal(script.byte());
    let input = script.rest();
    if let Some(id) = read_proposal(input) {
        check_answer(input, &id);
    }
    check_answer(input, &proposed);

    let mut answer = BytesMut::new();
    emit_acceptance(&proposed, &mut answer);
    let len = answer.len();
    answer.extend_from_slice(input);
    check_answer(&answer, &proposed);
    assert_eq!(parse_answer(&answer, &proposed), Ok(Some((Answer::Accepted, len))));
    assert_eq!(parse_proposal(&answer), Ok(Some((Proposal::Known(proposed.clone()), len))));
    let mut answer = BytesMut::new();
    emit_refusal(&mut answer);
    answer.extend_from_slice(input);
    check_answer(&answer, &proposed);
    assert_eq!(parse_answer(&answer, &proposed), Ok(Some((Answer::Refused, 1))));
}

/// Parses a proposal. Returns it if it is one of Glueberry's.
fn read_proposal(input: &[u8]) -> Option<ProtocolId> {
    let parsed = parse_proposal(input);
    for cut in 0..input.len().min(MAX_ID_LEN + 2) {
        let part = parse_proposal(&input[..cut]);
        assert!(part == Ok(None) || part == parsed, "cut at {cut}: {part:?}");
    }
    match parsed {
        Ok(None) => assert!(input.len() <= MAX_ID_LEN),
        Ok(Some((Proposal::Known(id), len))) => {
            let mut emitted = BytesMut::new();
            emit_proposal(&id, &mut emitted);
            assert_eq!(emitted, input[..len], "what parses is emitted again");
            return Some(id);
        }
        Ok(Some((Proposal::Unknown(id), len))) => {
            assert!((1..=MAX_ID_LEN).contains(&id.len()));
            assert_eq!((id.as_bytes(), len), (&input[1..len], 1 + id.len()));
            assert!(ProtocolId::parse(&id).is_err());
        }
        Err(error) => assert_ne!(error, PreambleError::Mismatch),
    }
    None
}

fn check_answer(input: &[u8], proposed: &ProtocolId) {
    let parsed = parse_answer(input, proposed);
    for cut in 0..input.len().min(MAX_ID_LEN + 2) {
        let part = parse_answer(&input[..cut], proposed);
        assert!(part == Ok(None) || part == parsed, "cut at {cut}: {part:?}");
    }
    assert!(matches!(parsed, Ok(_) | Err(PreambleError::Mismatch)), "{parsed:?}");
}

fn proposal(choice: u8) -> ProtocolId {
    match choice % 6 {
        0 => Profile::V1.handshake_id(),
        1 => Profile::V1Go.handshake_id(),
        2 => ProtocolId::Handshake(Profile::V2),
        3 => Profile::V1.stream_id(StreamName::new("chat").expect("a name")),
        4 => Profile::V1Go.stream_id(StreamName::new_go("größe").expect("a name for Go")),
        _ => ProtocolId::Stream {
            version: StreamVersion::V2,
            name: StreamName::new(&"x".repeat(64)).expect("the longest name"),
        },
    }
}
