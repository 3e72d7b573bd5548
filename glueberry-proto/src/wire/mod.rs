//! The bytes on the wire: protocol ids, frames and the name preamble.
//!
//! Everything here is a value with `parse` and `emit`. Nothing does I/O, and no parser allocates in
//! proportion to a length that a peer announced. This module is for adapters of further transports
//! and for tests against other implementations; applications do not need it.
//!
//! | profile | handshake substream | substream of the stream `N` | frame |
//! |---|---|---|---|
//! | [`Profile::V1`] | `/glueberry/handshake/1.0.0` | `/glueberry/stream/N/1.0.0` | `u32` big-endian length ‖ body |
//! | [`Profile::V1Go`] | `/glueberry/stream/handshake/1.0.0` | `/glueberry/stream/N/1.0.0` | varint(len(inner) + length) ‖ inner = varint(length) ‖ body |
//! | [`Profile::V2`] | `/glueberry/handshake/2.0.0` | `/glueberry/stream/N/2.0.0` | minimal varint(length) ‖ body, on a named stream inside of records |
//!
//! | what | bytes |
//! |---|---|
//! | body of a frame on the handshake substream | a message of the application, in the clear |
//! | body of a frame on a named stream | a record: nonce (12) ‖ ciphertext ‖ tag (16), see [`crypto`](crate::crypto) |
//! | varint | unsigned LEB128 of at most 10 bytes: minimal when written, any form when read |
//! | preamble, from the opener | `u8` length (1 to 128) ‖ protocol id in UTF-8 |
//! | preamble, the answer | the same bytes to accept, a single `00` to refuse |
//!
//! The preamble exists only on transports that do not negotiate a protocol per substream.
//!
//! ```
//! use bytes::BytesMut;
//! use glueberry_proto::wire::{Framing, Parsed};
//!
//! let mut wire = BytesMut::new();
//! Framing::LengthPrefix.emit_header(5, &mut wire);
//! wire.extend_from_slice(b"hello");
//!
//! let Parsed::Frame(header) = Framing::LengthPrefix.parse_header(&wire, 1024)? else {
//!     panic!("the header is whole");
//! };
//! assert_eq!(&wire[header.header_len..header.total_len()], b"hello");
//! # Ok::<(), glueberry_proto::wire::FrameError>(())
//! ```

pub use frame::{FrameError, FrameHeader, Framing, MAX_TRAILING_LEN, Parsed};
pub use preamble::{
    Answer, MAX_ID_LEN, PreambleError, Proposal, emit_acceptance, emit_proposal, emit_refusal,
    parse_answer, parse_proposal,
};
pub use protocol::{
    MAX_STREAM_NAME_LEN, Profile, ProtocolId, ProtocolIdError, StreamName, StreamNameError,
    StreamVersion,
};

mod frame;
mod preamble;
mod protocol;
pub mod varint;
