use proptest::prelude::*;

use super::*;

const BOTH: [Framing; 2] = [Framing::LengthPrefix, Framing::DoubleVarint];
const LIMIT: usize = 10_000;

fn header(framing: Framing, body_len: usize) -> BytesMut {
    let mut out = BytesMut::new();
    framing.emit_header(body_len, &mut out);
    out
}

fn double(input: &str) -> Result<Parsed, FrameError> {
    Framing::DoubleVarint.parse_header(&unhex(input), LIMIT)
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn frame(header_len: usize, body_len: usize, trailing_len: usize) -> Result<Parsed, FrameError> {
    Ok(Parsed::Frame(FrameHeader { header_len, body_len, trailing_len }))
}

/// Bytes that the Go program wrote.
#[test]
fn headers_as_go_writes_them() {
    for (body_len, bytes) in [
        (0, "0100"),
        (1, "0201"),
        (3, "0403"),
        (126, "7f7e"),
        (127, "80017f"),
        (128, "82018001"),
        (16_383, "818001ff7f"),
        (16_384, "838001808001"),
    ] {
        assert_eq!(hex::encode(header(Framing::DoubleVarint, body_len)), bytes);
    }
}

#[test]
fn length_prefix() {
    assert_eq!(hex::encode(header(Framing::LengthPrefix, 0x0102)), "00000102");
    let parse = |input: &[u8]| Framing::LengthPrefix.parse_header(input, LIMIT);
    assert_eq!(parse(&[0, 0, 0]), Ok(Parsed::Incomplete));
    assert_eq!(parse(&[0, 0, 0, 0]), frame(4, 0, 0));
    assert_eq!(parse(&[0, 0, 0x27, 0x10]), frame(4, LIMIT, 0));
    assert_eq!(
        parse(&[0, 0, 0x27, 0x11]),
        Err(FrameError::TooLarge { announced: 10_001, limit: LIMIT })
    );
    assert_eq!(
        parse(&[0xff; 4]),
        Err(FrameError::TooLarge { announced: 0xffff_ffff, limit: LIMIT })
    );
}

#[test]
fn malformed_double_varints() {
    assert_eq!(double("00"), Err(FrameError::Empty));
    assert_eq!(double("8000"), Err(FrameError::Empty));
    assert_eq!(double("ffffffffffffffffff02"), Err(FrameError::InvalidVarint));
    // The inner varint fills the frame and goes on.
    assert_eq!(double("0180"), Err(FrameError::InvalidVarint));
    assert_eq!(double("0280"), Ok(Parsed::Incomplete));
    assert_eq!(double("028080"), Err(FrameError::InvalidVarint));
    assert_eq!(double("0bffffffffffffffffff02"), Err(FrameError::InvalidVarint));
    assert_eq!(double("0309"), Err(FrameError::BodyExceedsFrame { body: 9, room: 2 }));
    assert_eq!(
        double("0bffffffffffffffffff01"),
        Err(FrameError::BodyExceedsFrame { body: u64::MAX, room: 1 })
    );
}

#[test]
fn trailing_bytes_are_bounded() {
    assert_eq!(double("0502"), frame(2, 2, 2));
    assert_eq!(double("810800"), frame(3, 0, 1024));
    let limit = MAX_TRAILING_LEN;
    assert_eq!(double("820800"), Err(FrameError::Trailing { announced: 1025, limit }));
}

#[test]
fn the_body_limit_holds_in_the_inner_length() {
    // 10,000 and 10,001 bytes.
    assert_eq!(double("924e904e"), frame(4, LIMIT, 0));
    let error = |announced| Err(FrameError::TooLarge { announced, limit: LIMIT });
    assert_eq!(double("934e914e"), error(10_001));
    // The outer length alone tells: more than the body, the longest varint and what may trail.
    let outer = |len| {
        let mut bytes = BytesMut::new();
        varint::emit(len, &mut bytes);
        Framing::DoubleVarint.parse_header(&bytes, LIMIT)
    };
    assert_eq!(outer(11_034), Ok(Parsed::Incomplete));
    assert_eq!(outer(11_035), error(11_035));
    assert_eq!(outer(u64::MAX), error(u64::MAX));
}

#[test]
fn no_limit_of_ours_exceeds_that_of_go() {
    let parse = |input: &str| Framing::DoubleVarint.parse_header(&unhex(input), usize::MAX);
    assert_eq!(parse("80808020"), Ok(Parsed::Incomplete));
    let limit = usize::MAX;
    assert_eq!(parse("81808020"), Err(FrameError::TooLarge { announced: 67_108_865, limit }));
    let longest = Framing::DoubleVarint.max_body_len();
    assert_eq!(longest, 67_108_860);
    assert_eq!(hex::encode(header(Framing::DoubleVarint, longest)), "80808020fcffff1f");
    assert_eq!(parse("80808020fcffff1f"), frame(8, longest, 0));
}

#[test]
fn too_long_a_body_is_announced_so_that_every_peer_refuses_it() {
    for framing in BOTH {
        for body_len in [framing.max_body_len().saturating_add(1), usize::MAX - 1, usize::MAX] {
            let header = header(framing, body_len);
            let parsed = framing.parse_header(&header, framing.max_body_len() - 1);
            assert!(matches!(parsed, Err(FrameError::TooLarge { .. })), "{parsed:?}");
        }
    }
}

#[test]
fn ends() {
    let end = |framing: Framing, rest: &str| framing.check_end(&unhex(rest));
    assert_eq!(end(Framing::LengthPrefix, ""), Ok(()));
    assert_eq!(end(Framing::LengthPrefix, "00"), Err(FrameError::Truncated));
    assert_eq!(end(Framing::LengthPrefix, "0000000161"), Err(FrameError::Truncated));
    for clean in ["", "80", "03", "8300", "ffffffffffffffffff"] {
        assert_eq!(end(Framing::DoubleVarint, clean), Ok(()));
    }
    for cut in ["0302", "030261", "0380", "828001"] {
        let truncated = if cut == "828001" { Ok(()) } else { Err(FrameError::Truncated) };
        assert_eq!(end(Framing::DoubleVarint, cut), truncated);
    }
    assert_eq!(end(Framing::DoubleVarint, "00"), Err(FrameError::Empty));
    assert_eq!(end(Framing::DoubleVarint, "ffffffffffffffffffff"), Err(FrameError::InvalidVarint));
}

fn framing() -> impl Strategy<Value = Framing> {
    prop::sample::select(BOTH.as_slice())
}

/// Bytes that often come close to a header.
fn near_headers() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => 0_u8..8, 2 => 0x80_u8..0x88, 1 => any::<u8>()];
    prop::collection::vec(byte, 0..32)
}

proptest! {
    #[test]
    fn round_trip(framing in framing(), body_len in 0..=67_108_860_usize, after: Vec<u8>) {
        let mut bytes = header(framing, body_len);
        let len = bytes.len();
        prop_assert_eq!(len, framing.header_len(body_len));
        bytes.extend_from_slice(&after);
        prop_assert_eq!(framing.parse_header(&bytes, body_len), frame(len, body_len, 0));
        if body_len > 0 {
            let parsed = framing.parse_header(&bytes, body_len - 1);
            prop_assert!(matches!(parsed, Err(FrameError::TooLarge { .. })), "{parsed:?}");
        }
    }

    #[test]
    fn cut_anywhere_is_incomplete_or_the_same(
        framing in framing(),
        bytes in near_headers(),
        limit in 0..2_000_usize,
    ) {
        let whole = framing.parse_header(&bytes, limit);
        for cut in 0..bytes.len() {
            let part = framing.parse_header(&bytes[..cut], limit);
            prop_assert!(part == Ok(Parsed::Incomplete) || part == whole);
        }
    }

    #[test]
    fn every_header_keeps_the_limits(
        framing in framing(),
        bytes in near_headers(),
        limit in 0..2_000_usize,
    ) {
        if let Ok(Parsed::Frame(header)) = framing.parse_header(&bytes, limit) {
            prop_assert!(header.header_len <= 20.min(bytes.len()));
            prop_assert!(header.body_len <= limit);
            prop_assert!(header.trailing_len <= MAX_TRAILING_LEN);
            prop_assert_eq!(
                header.total_len(),
                header.header_len + header.body_len + header.trailing_len
            );
        }
    }

    #[test]
    fn an_end_inside_a_frame_is_never_clean(
        body in prop::collection::vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
        framing in framing(),
    ) {
        let mut bytes = header(framing, body.len());
        bytes.extend_from_slice(&body);
        let cut = cut.index(bytes.len());
        let may_end = cut == 0
            || framing == Framing::DoubleVarint
                && cut <= framing.header_len(body.len()) - varint_len(body.len());
        let expected = if may_end { Ok(()) } else { Err(FrameError::Truncated) };
        prop_assert_eq!(framing.check_end(&bytes[..cut]), expected);
    }
}
