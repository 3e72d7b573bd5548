//! The frames of the mux: a fixed header, then a payload (`WIRE.md`, appendix A).

use bytes::{BufMut, BytesMut};

use super::config::{Config, MAX_WINDOW};
use super::error::Violation;

/// Bytes of every header.
pub(super) const HEADER: usize = 8;
/// The longest payload of a frame that is not DATA. Such a payload is gathered before it is read.
pub(super) const MAX_CONTROL: usize = 56;

const HELLO_LEN: usize = 16;
const MAGIC: [u8; 4] = *b"GBMX";
const VERSION: u16 = 1;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hello,
    Data { is_open: bool, is_fin: bool },
    Window,
    Ack,
    Reset,
    Ping { is_pong: bool },
    Close,
}

/// A header, checked as far as it can be checked alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) len: u16,
    /// The substream, or zero for the connection.
    pub(super) substream: u32,
}

impl Header {
    pub(super) fn parse(bytes: [u8; HEADER]) -> Result<Self, Violation> {
        let [kind, flags, l0, l1, s0, s1, s2, s3] = bytes;
        let len = u16::from_be_bytes([l0, l1]);
        let substream = u32::from_be_bytes([s0, s1, s2, s3]);
        let parsed = match (kind, flags) {
            (1, 0) => Kind::Hello,
            (2, 0..=3) => Kind::Data { is_open: flags & OPEN != 0, is_fin: flags & FIN != 0 },
            (3, 0) => Kind::Window,
            (4, 0) => Kind::Ack,
            (5, 0) => Kind::Reset,
            (6, 0 | PONG) => Kind::Ping { is_pong: flags == PONG },
            (7, 0) => Kind::Close,
            _ => return Err(Violation::UnknownFrame { kind, flags }),
        };
        let is_len_right = match parsed {
            Kind::Hello => (HELLO_LEN..=MAX_CONTROL).contains(&usize::from(len)),
            Kind::Data { is_open, is_fin } => len > 0 || is_open || is_fin,
            Kind::Window | Kind::Reset | Kind::Close => len == 4,
            Kind::Ack => len == 0,
            Kind::Ping { .. } => len == 8,
        };
        if !is_len_right {
            return Err(Violation::BadLength { kind, len });
        }
        let is_substream_right = match parsed {
            Kind::Hello | Kind::Ping { .. } | Kind::Close => substream == 0,
            Kind::Data { .. } | Kind::Ack | Kind::Reset => substream != 0,
            Kind::Window => true,
        };
        if !is_substream_right {
            return Err(Violation::BadSubstream { substream });
        }
        Ok(Self { kind: parsed, len, substream })
    }

    pub(super) fn emit(self, out: &mut BytesMut) {
        let (kind, flags) = match self.kind {
            Kind::Hello => (1, 0),
            Kind::Data { is_open, is_fin } => {
                (2, if is_open { OPEN } else { 0 } | if is_fin { FIN } else { 0 })
            }
            Kind::Window => (3, 0),
            Kind::Ack => (4, 0),
            Kind::Reset => (5, 0),
            Kind::Ping { is_pong } => (6, if is_pong { PONG } else { 0 }),
            Kind::Close => (7, 0),
        };
        out.put_u8(kind);
        out.put_u8(flags);
        out.put_u16(self.len);
        out.put_u32(self.substream);
    }
}

/// Appends a frame whose payload is one number.
pub(super) fn emit_u32(kind: Kind, substream: u32, value: u32, out: &mut BytesMut) {
    Header { kind, len: 4, substream }.emit(out);
    out.put_u32(value);
}

pub(super) fn emit_ping(is_pong: bool, payload: u64, out: &mut BytesMut) {
    Header { kind: Kind::Ping { is_pong }, len: 8, substream: 0 }.emit(out);
    out.put_u64(payload);
}

/// What a side announces first: what its peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) max_substreams: u16,
    pub(super) window: u32,
    pub(super) connection_window: u32,
}

impl Hello {
    pub(super) const fn of(config: &Config) -> Self {
        Self {
            max_substreams: config.max_substreams,
            window: config.window,
            connection_window: config.connection_window,
        }
    }

    pub(super) fn emit(self, out: &mut BytesMut) {
        Header { kind: Kind::Hello, len: 16, substream: 0 }.emit(out);
        out.put_slice(&MAGIC);
        out.put_u16(VERSION);
        out.put_u16(self.max_substreams);
        out.put_u32(self.window);
        out.put_u32(self.connection_window);
    }

    /// Parses a payload. What follows the known fields is of a later version, and ignored.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Violation> {
        let Some((fields, _)) = payload.split_first_chunk::<HELLO_LEN>() else {
            return Err(Violation::BadHello);
        };
        let [m0, m1, m2, m3, v0, v1, s0, s1, w0, w1, w2, w3, c0, c1, c2, c3] = *fields;
        let hello = Self {
            max_substreams: u16::from_be_bytes([s0, s1]),
            window: u32::from_be_bytes([w0, w1, w2, w3]),
            connection_window: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        let is_good = [m0, m1, m2, m3] == MAGIC
            && u16::from_be_bytes([v0, v1]) == VERSION
            && (1..=MAX_WINDOW).contains(&hello.window)
            && (1..=MAX_WINDOW).contains(&hello.connection_window);
        is_good.then_some(hello).ok_or(Violation::BadHello)
    }
}

/// Reads a payload that is one number. The header's length was checked.
pub(super) fn parse_u32(payload: &[u8]) -> u32 {
    payload.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

/// Reads the payload of a PING. The header's length was checked.
pub(super) fn parse_u64(payload: &[u8]) -> u64 {
    payload.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

const OPEN: u8 = 1;
const FIN: u8 = 2;
const PONG: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let kinds = [
            (Kind::Hello, 16, 0),
            (Kind::Data { is_open: false, is_fin: false }, 1, 7),
            (Kind::Data { is_open: true, is_fin: false }, 0, u32::MAX),
            (Kind::Data { is_open: false, is_fin: true }, u16::MAX, 2),
            (Kind::Data { is_open: true, is_fin: true }, 0, 2),
            (Kind::Window, 4, 0),
            (Kind::Window, 4, 9),
            (Kind::Ack, 0, 3),
            (Kind::Reset, 4, 3),
            (Kind::Ping { is_pong: false }, 8, 0),
            (Kind::Ping { is_pong: true }, 8, 0),
            (Kind::Close, 4, 0),
        ];
        for (kind, len, substream) in kinds {
            let header = Header { kind, len, substream };
            let mut out = BytesMut::new();
            header.emit(&mut out);
            assert_eq!(Header::parse(out[..].try_into().unwrap()), Ok(header));
        }
    }

    #[test]
    fn what_no_frame_may_be_is_refused() {
        let unknown = |kind, flags| Err(Violation::UnknownFrame { kind, flags });
        assert_eq!(Header::parse([0; 8]), unknown(0, 0));
        assert_eq!(Header::parse(*b"HTTP/1.1"), unknown(b'H', b'T'));
        assert_eq!(Header::parse([2, 4, 0, 1, 0, 0, 0, 1]), unknown(2, 4));
        let length = |kind, len| Err(Violation::BadLength { kind, len });
        assert_eq!(Header::parse([2, 0, 0, 0, 0, 0, 0, 1]), length(2, 0), "empty DATA");
        assert_eq!(Header::parse([1, 0, 0, 57, 0, 0, 0, 0]), length(1, 57), "long HELLO");
        assert_eq!(Header::parse([5, 0, 0, 5, 0, 0, 0, 1]), length(5, 5));
        let substream = |substream| Err(Violation::BadSubstream { substream });
        assert_eq!(Header::parse([2, 0, 0, 1, 0, 0, 0, 0]), substream(0), "DATA of none");
        assert_eq!(Header::parse([7, 0, 0, 4, 0, 0, 0, 1]), substream(1), "CLOSE of one");
    }

    #[test]
    fn hello_has_its_layout_and_room_for_more() {
        let hello = Hello { max_substreams: 2, window: 3, connection_window: 4 };
        let mut out = BytesMut::new();
        hello.emit(&mut out);
        assert_eq!(hex::encode(&out), "010000100000000047424d58000100020000000300000004");
        out.extend_from_slice(b"more");
        assert_eq!(Hello::parse(&out[HEADER..]), Ok(hello));
        out[HEADER] ^= 1;
        assert_eq!(Hello::parse(&out[HEADER..]), Err(Violation::BadHello));
    }
}
