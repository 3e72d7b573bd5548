//! What the buffer of a substream costs: no byte is moved more than a few times on its way.

use std::ops::Range;

use bytes::BytesMut;
use glueberry_proto::{Naming, Profile, SubstreamId};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use proptest::prop_assert;

use super::support::{Raw, name};

/// How an adapter hands in what it has read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// Straight into the room of the buffer, as `read_buf` does.
    Into,
    /// From a buffer of the transport's.
    Appending,
}

/// The buffer of one substream, and where its bytes lay when it was last looked at.
struct Watched {
    raw: Raw,
    id: SubstreamId,
    held: Range<usize>,
    /// Bytes that were found at another place than before.
    moved: usize,
    delivered: usize,
}

impl Watched {
    fn new(profile: Profile) -> Self {
        let mut raw = Raw::chat(Naming::Negotiated, profile);
        let id = raw.open_stream("chat");
        Self { raw, id, held: 0..0, moved: 0, delivered: 0 }
    }

    /// Compares where the held bytes lie with before: they end where they ended, unless moved.
    fn look(&mut self, appended: usize) {
        let held = place(self.raw.buffers.get_mut(&self.id).unwrap().read_buffer());
        self.compare(held, appended);
    }

    fn compare(&mut self, held: Range<usize>, appended: usize) {
        if held.end != self.held.end + appended {
            self.moved += held.len().saturating_sub(appended);
        }
        self.held = held;
    }

    fn arrive(&mut self, mut bytes: &[u8], reading: Reading) {
        let buffer = self.raw.buffers.get_mut(&self.id).unwrap();
        match reading {
            Reading::Into => {
                let into = buffer.read_buffer();
                let room = into.capacity() - into.len();
                let fitting = bytes.split_off(..room.min(bytes.len())).unwrap();
                into.extend_from_slice(fitting);
                let held = place(into);
                self.compare(held, fitting.len());
                self.take();
                if !bytes.is_empty() {
                    self.arrive(bytes, reading);
                }
            }
            Reading::Appending => {
                let (session, now) = (&mut self.raw.session, self.raw.now);
                buffer.append(session, now, bytes);
                buffer.received(session, now);
                self.look(bytes.len());
                self.take();
            }
        }
    }

    fn take(&mut self) {
        let (session, now) = (&mut self.raw.session, self.raw.now);
        self.raw.buffers.get_mut(&self.id).unwrap().received(session, now);
        self.raw.settle();
        while self.raw.session.poll_message(&name("chat")).is_some() {
            self.delivered += 1;
            self.raw.settle();
        }
        self.look(0);
    }
}

fn place(buffer: &BytesMut) -> Range<usize> {
    let start = buffer.as_ptr().addr();
    start..start + buffer.len()
}

/// Returns how many bytes were moved of how many that arrived.
fn moved(profile: Profile, sizes: &[usize], piece: usize, reading: Reading) -> (usize, usize) {
    let mut watched = Watched::new(profile);
    let frames = sizes.iter().flat_map(|size| watched.raw.message(&vec![0; *size]));
    let frames: Vec<u8> = frames.collect();
    for piece in frames.chunks(piece) {
        watched.arrive(piece, reading);
    }
    assert_eq!(watched.delivered, sizes.len());
    (watched.moved, frames.len())
}

#[test]
fn a_byte_is_moved_at_most_twice_whatever_the_size_of_its_message() {
    for size in [1, 60 * KIB, 66 * KIB, 100 * KIB, 2 << 20] {
        for piece in [1_199, 16 * KIB, 1 << 20] {
            for reading in [Reading::Into, Reading::Appending] {
                let (moved, arrived) = moved(Profile::V1, &[size], piece, reading);
                assert!(moved <= 2 * arrived, "{moved} of {arrived}: {size}, {piece}, {reading:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_moved_at_most_twice_however_they_are_cut(
        sizes in prop::collection::vec(0_usize..200 * KIB, 1..8),
        piece in 900_usize..200 * KIB,
        is_appended in any::<bool>(),
        is_go in any::<bool>(),
    ) {
        let reading = if is_appended { Reading::Appending } else { Reading::Into };
        let profile = if is_go { Profile::V1Go } else { Profile::V1 };
        let (moved, arrived) = moved(profile, &sizes, piece, reading);
        prop_assert!(moved <= 2 * arrived, "{} of {}", moved, arrived);
    }
}

const KIB: usize = 1024;
