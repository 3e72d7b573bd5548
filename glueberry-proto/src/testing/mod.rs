//! Bodies of fuzz targets, and the pair of nodes that tests and benchmarks share. Not a public API.
//!
//! Each body takes arbitrary bytes and panics if a rule of the crate is violated. They are here, and
//! not in `fuzz/`, so that `cargo test` compiles them with the crate and runs them over the
//! committed seeds and over random inputs (`tests/fuzz`).

#[cfg(feature = "serde")]
mod book;
mod frames;
mod greeting;
mod mux;
mod node;
pub mod pair;
mod preamble;
mod records;
mod script;
mod session;
mod v2;
mod v2_session;

#[cfg(feature = "serde")]
pub use self::book::fuzz_book;
pub use self::frames::{fuzz_frames_v1, fuzz_frames_v1_go};
pub use self::greeting::fuzz_greeting;
pub use self::mux::fuzz_mux;
pub use self::node::fuzz_node;
pub use self::preamble::fuzz_preamble;
pub use self::records::fuzz_open_record;
pub use self::session::fuzz_handshake_input;
pub use self::v2::{Confirmation, fuzz_v2_frames, fuzz_v2_gate};
pub use self::v2_session::fuzz_v2_session;
