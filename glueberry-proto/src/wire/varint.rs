//! Unsigned LEB128 integers, as Go's `encoding/binary` and cramberry write them.

use bytes::BufMut;

use super::frame::FrameError;

/// Length of the longest varint of a 64-bit integer, in bytes.
pub const MAX_LEN: usize = 10;

/// Returns how many bytes [`emit`] writes for `value`.
#[must_use]
pub const fn encoded_len(value: u64) -> usize {
    let mut rest = value >> 7;
    let mut len = 1;
    while rest > 0 {
        rest >>= 7;
        len += 1;
    }
    len
}

/// Appends `value` in its shortest form.
pub fn emit(value: u64, out: &mut impl BufMut) {
    let mut rest = value;
    while rest >= u64::from(CONTINUE) {
        out.put_u8(low_byte(rest) | CONTINUE);
        rest >>= 7;
    }
    out.put_u8(low_byte(rest));
}

/// Parses the varint that `input` starts with.
///
/// Returns the value and how many bytes it took, or `None` if `input` ends inside it. Forms longer
/// than needed are accepted, as Go does.
///
/// # Errors
/// [`FrameError::InvalidVarint`] if the value does not fit 64 bits.
pub fn parse(input: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0;
    for (index, byte) in input.iter().take(MAX_LEN).enumerate() {
        // Nine bytes hold 63 bits, so the tenth may add one bit and must be the last.
        if index + 1 == MAX_LEN && *byte > 1 {
            return Err(FrameError::InvalidVarint);
        }
        value |= u64::from(byte & !CONTINUE) << (7 * index);
        if byte & CONTINUE == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    Ok(None)
}

/// Parses the varint that `input` starts with, which must have its shortest form and at most `longest`
/// bytes.
///
/// Returns `Some(None)` if `input` ends inside it, and `None` if it is longer.
pub(crate) fn parse_minimal(input: &[u8], longest: usize) -> Option<Option<(u64, usize)>> {
    let mut value = 0;
    for (index, byte) in input.iter().take(longest).enumerate() {
        value |= u64::from(byte & !CONTINUE) << (7 * index);
        if byte & CONTINUE == 0 {
            let is_minimal = *byte != 0 || index == 0;
            return is_minimal.then_some(Some((value, index + 1)));
        }
    }
    (input.len() < longest).then_some(None)
}

fn low_byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

const CONTINUE: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn emitted(value: u64) -> bytes::BytesMut {
        let mut out = bytes::BytesMut::new();
        emit(value, &mut out);
        out
    }

    #[test]
    fn boundaries() {
        for (value, bytes) in [
            (0, "00"),
            (1, "01"),
            (127, "7f"),
            (128, "8001"),
            (16_383, "ff7f"),
            (16_384, "808001"),
            (u64::MAX, "ffffffffffffffffff01"),
        ] {
            assert_eq!(hex::encode(emitted(value)), bytes);
        }
    }

    #[test]
    fn longer_forms_are_read() {
        assert_eq!(parse(&[0x83, 0x00]), Ok(Some((3, 2))));
        assert_eq!(
            parse(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            Ok(Some((0, 10)))
        );
    }

    #[test]
    fn overflow_is_refused() {
        for tenth in [0x02, 0x7f, 0x80, 0x81, 0xff] {
            let mut bytes = [0xff; 10];
            bytes[9] = tenth;
            assert_eq!(parse(&bytes), Err(FrameError::InvalidVarint));
        }
    }

    proptest! {
        #[test]
        fn round_trip(value: u64, after: Vec<u8>) {
            let mut bytes = emitted(value);
            let len = bytes.len();
            prop_assert_eq!(len, encoded_len(value));
            bytes.extend_from_slice(&after);
            prop_assert_eq!(parse(&bytes), Ok(Some((value, len))));
        }

        #[test]
        fn cut_anywhere_is_incomplete_or_the_same(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let whole = parse(&bytes);
            for cut in 0..bytes.len() {
                let part = parse(&bytes[..cut]);
                prop_assert!(part == Ok(None) || part == whole);
            }
        }
    }
}
