//! C10, measured: what sessions and nodes hold at most, and what they hold when nothing happens.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

#[path = "../core/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the other test binary uses the rest")]
mod support;

mod idle;
mod node;
mod pipes;
mod session;

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use glueberry_proto::compat::Cipher;
use glueberry_proto::{Action, OpenError, Profile, SubstreamBuffer, SubstreamId};
use peak_alloc::PeakAlloc;

use crate::support::{A, B, Raw, frame, identity, key};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;

/// While it lives, no other test of this binary runs.
struct Alone(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

fn alone() -> Alone {
    static LOCK: Mutex<()> = Mutex::new(());
    Alone(LOCK.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Alone {
    /// Measures from now on.
    fn measure(&self) -> Measured {
        MEMORY.reset_peak_usage();
        Measured { before: MEMORY.current_usage() }
    }
}

struct Measured {
    before: usize,
}

impl Measured {
    /// Returns the most bytes that were held since the beginning.
    fn peak(&self) -> usize {
        MEMORY.peak_usage().saturating_sub(self.before)
    }

    /// Returns the bytes that are held and were not in the beginning.
    fn now(&self) -> usize {
        MEMORY.current_usage().saturating_sub(self.before)
    }
}

/// What a peer sends on one substream, made before anything is measured.
struct Flood {
    bytes: Bytes,
}

impl Flood {
    /// Messages of the given sizes, over and over, up to so many bytes; some of them spoilt.
    fn new(profile: Profile, number: u8, sizes: &[usize], total: usize, spoils: &[usize]) -> Self {
        let cipher = Cipher::from_key(&identity(B).agree_v1(&key(A)).unwrap());
        let (mut bytes, mut nonce) = (Vec::new(), 0_u64);
        for (at, size) in sizes.iter().cycle().enumerate() {
            if bytes.len() >= total {
                break;
            }
            let mut full = [number; 12];
            full[..8].copy_from_slice(&nonce.to_be_bytes());
            nonce += 1;
            let mut record = cipher.encrypt(&vec![1; *size], b"", &full);
            if spoils.contains(&at) {
                record[15] ^= 1;
            }
            bytes.extend_from_slice(&frame(profile, &record));
        }
        Self { bytes: Bytes::from(bytes) }
    }
}

/// Takes bytes to a session as an adapter does: while it wants them, into the room that there is.
fn pump(raw: &mut Raw, id: SubstreamId, bytes: &mut Bytes, mut most: usize) {
    while most > 0 && !bytes.is_empty() {
        let Some(buffer) = raw.buffers.get_mut(&id).filter(|buffer| buffer.wants_read()) else {
            return;
        };
        let read = buffer.read_buffer();
        let count = (read.capacity() - read.len()).min(bytes.len()).min(most);
        read.extend_from_slice(&bytes[..count]);
        bytes.advance(count);
        most -= count;
        buffer.received(&mut raw.session, raw.now);
        raw.settle();
    }
}

/// Lets the transport take so many bytes of a substream.
fn take(raw: &mut Raw, id: SubstreamId, mut most: usize) {
    let Some(buffer) = raw.buffers.get_mut(&id) else {
        return;
    };
    while most > 0
        && let Some(chunk) = buffer.chunk(&mut raw.session)
    {
        let count = chunk.len().min(most);
        buffer.wrote(count);
        most -= count;
    }
    raw.settle();
}

/// Agrees to everything that is being opened, or refuses it.
fn answer(raw: &mut Raw, agrees: bool) -> Vec<SubstreamId> {
    let mut opened = Vec::new();
    for action in std::mem::take(&mut raw.actions) {
        if let Action::OpenSubstream { substream, protocols } = action {
            if agrees {
                raw.buffers.insert(substream, SubstreamBuffer::new(substream));
                raw.session.handle_opened(raw.now, substream, Some(protocols[0].clone()));
                opened.push(substream);
            } else {
                raw.session.handle_open_failed(raw.now, substream, OpenError::Refused);
            }
        }
    }
    raw.settle();
    opened
}
