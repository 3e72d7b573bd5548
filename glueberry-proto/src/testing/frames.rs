//! Frames of a peer, cut at any byte.

use bytes::BytesMut;

use super::script::Script;
use crate::wire::{FrameError, FrameHeader, Framing, MAX_TRAILING_LEN, Parsed};

/// Parses bytes as frames of v1.
pub fn fuzz_frames_v1(data: &[u8]) {
    fuzz_frames(Framing::LengthPrefix, data);
}

/// Parses bytes as frames of Go nodes.
pub fn fuzz_frames_v1_go(data: &[u8]) {
    fuzz_frames(Framing::DoubleVarint, data);
}

/// The first two bytes are the limit of a body, the next three a length to announce. The rest is
/// parsed; the parsed frames are written and parsed once more.
fn fuzz_frames(framing: Framing, data: &[u8]) {
    let mut script = Script::new(data);
    let limit = script.number() << 8 | script.number();
    let announced = script.number() << 16 | script.number() << 8 | script.number();
    emit(framing, announced);

    let input = script.rest();
    let (mut rest, mut bodies) = (input, Vec::new());
    while let Some((body, after)) = parse(framing, rest, limit) {
        bodies.push(body);
        rest = after;
    }

    let mut emitted = BytesMut::new();
    for body in &bodies {
        framing.emit_header(body.len(), &mut emitted);
        emitted.extend_from_slice(body);
    }
    // A peer may write longer forms than needed, and ignored bytes. Otherwise nothing changes.
    let whole = &input[..input.len() - rest.len()];
    assert!(emitted.len() < whole.len() || emitted == whole, "{emitted:?} for {whole:?}");

    let mut rest = &emitted[..];
    for body in bodies {
        let (again, after) = parse(framing, rest, limit).expect("what was read can be written");
        assert_eq!(again, body);
        rest = after;
    }
    assert_eq!((rest, framing.check_end(rest)), (&[][..], Ok(())));
}

/// Parses one frame. Returns its body and the bytes behind it, if it is complete.
fn parse(framing: Framing, input: &[u8], limit: usize) -> Option<(&[u8], &[u8])> {
    let parsed = framing.parse_header(input, limit);
    let looked_at = match parsed {
        Ok(Parsed::Frame(header)) => header.header_len,
        Ok(Parsed::Incomplete) | Err(_) => input.len().min(LONGEST_HEADER + 1),
    };
    for cut in 0..looked_at {
        let part = framing.parse_header(&input[..cut], limit);
        assert!(part == Ok(Parsed::Incomplete) || part == parsed, "cut at {cut}: {part:?}");
    }
    let end = framing.check_end(input);
    match parsed {
        Ok(Parsed::Frame(header)) => {
            assert_eq!(end, Err(FrameError::Truncated), "a message was begun");
            check_header(framing, header, limit);
            let (frame, after) = input.split_at_checked(header.total_len())?;
            Some((&frame[header.header_len..][..header.body_len], after))
        }
        Ok(Parsed::Incomplete) => {
            assert!(matches!(end, Ok(()) | Err(FrameError::Truncated)), "{end:?}");
            assert!(input.len() < LONGEST_HEADER);
            None
        }
        Err(error) => {
            assert!(end == Err(error) || end == Err(FrameError::Truncated) || end == Ok(()));
            None
        }
    }
}

fn check_header(framing: Framing, header: FrameHeader, limit: usize) {
    assert!(header.body_len <= limit, "above the limit: {header:?}");
    assert!(header.trailing_len <= MAX_TRAILING_LEN, "too much behind: {header:?}");
    assert!(header.header_len <= LONGEST_HEADER);
    assert!(framing.header_len(header.body_len) <= header.header_len);
}

/// Checks that a length within the limit is accepted, and one above it refused.
fn emit(framing: Framing, body_len: usize) {
    let mut header = BytesMut::new();
    framing.emit_header(body_len, &mut header);
    assert_eq!(header.len(), framing.header_len(body_len));
    let parsed = framing.parse_header(&header, body_len);
    let expected = FrameHeader { header_len: header.len(), body_len, trailing_len: 0 };
    assert_eq!(parsed, Ok(Parsed::Frame(expected)));
    if let Some(below) = body_len.checked_sub(1) {
        let refused = FrameError::TooLarge { announced: 0, limit: below };
        let error = framing.parse_header(&header, below).err();
        let same = error.map(|error| std::mem::discriminant(&error));
        assert_eq!(same, Some(std::mem::discriminant(&refused)));
    }
}

/// Two varints of ten bytes.
const LONGEST_HEADER: usize = 20;
