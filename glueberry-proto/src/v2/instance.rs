//! What a substream of a named stream begins with, and how this side writes one (WIRE.md §8.3,
//! §8.4).

use bytes::{BufMut, BytesMut};

use super::record::{Cipher, Kind, Sealer, Writer};
use super::violation::Violation;
use crate::crypto::SharedKey;
use crate::time::Instant;
use crate::wire::varint;

/// What goes ahead of the records of an instance, in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preamble {
    /// The front of the session's id.
    pub(crate) session: [u8; 8],
    pub(crate) instance: u32,
}

impl Preamble {
    pub(crate) const LEN: usize = 12;

    pub(crate) fn emit(&self, out: &mut BytesMut) {
        out.put_slice(&self.session);
        out.put_u32(self.instance);
    }

    /// Reads it, once it has arrived.
    pub(crate) fn parse(input: &[u8]) -> Option<Self> {
        let (session, rest) = input.split_first_chunk()?;
        let instance = u32::from_be_bytes(*rest.first_chunk()?);
        Some(Self { session: *session, instance })
    }
}

/// How the instance before ended for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// There was none.
    None,
    Closed,
    Broken,
}

/// The first record of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) instance: u32,
    /// The number of the first message.
    pub(crate) first: u64,
    pub(crate) last: Last,
}

impl Open {
    const LEN: usize = 13;

    pub(crate) fn emit(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&self.instance.to_be_bytes());
        out[4..12].copy_from_slice(&self.first.to_be_bytes());
        out[12] = match self.last {
            Last::None => 0,
            Last::Closed => 1,
            Last::Broken => 2,
        };
        out
    }

    /// Reads it, on a substream whose preamble has named this instance.
    pub(crate) fn parse(slice: &[u8], expected: u32) -> Result<Self, Violation> {
        let slice: &[u8; Self::LEN] = slice.try_into().map_err(|_| Violation::BadRecord)?;
        let [instance @ .., _, _, _, _, _, _, _, _, _] = slice;
        let [_, _, _, _, first @ .., last] = slice;
        let (instance, first) = (u32::from_be_bytes(*instance), u64::from_be_bytes(*first));
        if instance != expected {
            return Err(Violation::Instance);
        }
        if first >= MAX_NUMBER || (instance == 0 && first != 0) {
            return Err(Violation::Number);
        }
        let last = match (last, instance) {
            (0, 0) => Last::None,
            (1, 1..) => Last::Closed,
            (2, 1..) => Last::Broken,
            _ => return Err(Violation::BadRecord),
        };
        Ok(Self { instance, first, last })
    }
}

/// Writes one instance.
#[derive(Debug)]
pub(crate) struct InstanceWriter {
    sealer: Sealer,
    preamble: Preamble,
    open: Open,
    has_begun: bool,
    is_closed: bool,
}

impl InstanceWriter {
    pub(crate) fn new(cipher: Cipher, secret: &SharedKey, session: [u8; 8], open: Open) -> Self {
        Self {
            sealer: Sealer::new(cipher, secret),
            preamble: Preamble { session, instance: open.instance },
            open,
            has_begun: false,
            is_closed: false,
        }
    }

    /// Returns the number of its first message.
    pub(crate) const fn first(&self) -> u64 {
        self.open.first
    }

    pub(crate) const fn instance(&self) -> u32 {
        self.open.instance
    }

    /// True if its close record was written.
    pub(crate) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Begins to write at the end of `out`: what an instance begins with, if that wasn't written.
    pub(crate) fn write<'a>(&'a mut self, out: &'a mut BytesMut, now: Instant) -> Writer<'a> {
        let begins = !core::mem::replace(&mut self.has_begun, true);
        if begins {
            self.preamble.emit(out);
        }
        let mut writer = self.sealer.write(out, now);
        if begins {
            writer.put_record(Kind::Open, &self.open.emit());
        }
        writer
    }

    /// Ends the instance cleanly. The end of the substream's half follows.
    pub(crate) fn close(&mut self, out: &mut BytesMut, now: Instant) {
        self.write(out, now).put_record(Kind::Close, &[0, 0]);
        self.is_closed = true;
    }
}

impl Writer<'_> {
    /// Appends a message to the message stream.
    pub(crate) fn put_message(&mut self, message: &[u8]) {
        let mut length = [0; varint::MAX_LEN];
        let mut rest = &mut length[..];
        varint::emit(u64::try_from(message.len()).unwrap_or(u64::MAX), &mut rest);
        let len = varint::MAX_LEN - rest.len();
        self.put_both(&length[..len], message);
    }
}

/// Numbers of messages are below it.
const MAX_NUMBER: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_an_instance_may_open_with() {
        let slice = |instance: u32, first: u64, last: u8| {
            let mut slice = instance.to_be_bytes().to_vec();
            slice.extend_from_slice(&first.to_be_bytes());
            slice.push(last);
            slice
        };
        let good = Open { instance: 0, first: 0, last: Last::None };
        assert_eq!(Open::parse(&slice(0, 0, 0), 0), Ok(good));
        for (slice, expected, error) in [
            (slice(1, 0, 1), 2, Violation::Instance),
            (slice(1, 0, 9), 2, Violation::Instance),
            (slice(0, 1, 0), 0, Violation::Number),
            (slice(1, 1 << 63, 1), 1, Violation::Number),
            (slice(0, 0, 1), 0, Violation::BadRecord),
            (slice(1, 0, 0), 1, Violation::BadRecord),
            (slice(1, 0, 3), 1, Violation::BadRecord),
            (vec![0; 12], 0, Violation::BadRecord),
            (vec![0; 14], 0, Violation::BadRecord),
        ] {
            assert_eq!(Open::parse(&slice, expected), Err(error), "{slice:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(instance in 1_u32.., first in 0_u64..1 << 63, broken: bool, session: [u8; 8]) {
            let last = if broken { Last::Broken } else { Last::Closed };
            let open = Open { instance, first, last };
            prop_assert_eq!(Open::parse(&open.emit(), instance), Ok(open));
            let preamble = Preamble { session, instance };
            let mut out = BytesMut::new();
            preamble.emit(&mut out);
            prop_assert_eq!(Preamble::parse(&out), Some(preamble));
            for cut in 0..Preamble::LEN {
                prop_assert_eq!(Preamble::parse(&out[..cut]), None);
            }
        }
    }
}
