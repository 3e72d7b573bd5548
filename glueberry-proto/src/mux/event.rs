//! What arrives on a pipe.

use super::substreams::Id;

/// Something that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver must know that it has handled all there is")]
pub enum Event<'a> {
    /// The peer has said hello: substreams may be [opened](super::Mux::open).
    Ready,
    /// The peer has opened a substream.
    Accepted {
        /// Its id.
        substream: Id,
    },
    /// Bytes of a substream, behind those before.
    Data {
        /// The substream.
        substream: Id,
        /// At least one byte. [Release](super::Mux::release) them when they are taken.
        bytes: &'a [u8],
    },
    /// The peer has ended its half, and all before it has arrived.
    /// [Acknowledge](super::Mux::acknowledge) it when all is taken.
    Finished {
        /// The substream.
        substream: Id,
    },
    /// The peer has given up both halves. The substream is forgotten.
    Reset {
        /// The substream.
        substream: Id,
        /// The peer's code; a hint that proves nothing.
        code: u32,
    },
    /// The peer has taken all that was written on a substream, and its end.
    Acknowledged {
        /// The substream.
        substream: Id,
    },
}
