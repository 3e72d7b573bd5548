//! A peer at the other end of a pipe that opens, fills and resets whatever it may, and never reads.

use glueberry_proto::endpoint::{Endpoint, Output};
use glueberry_proto::wire::emit_proposal;
use glueberry_proto::{Config, ConnectionId, Instant, Profile, Seed, mux};

use crate::support::{A, B, identity, key, name};
use crate::{KIB, alone};

const HELLO: &[u8] = b"\x01\0\0\x10\0\0\0\0GBMX\0\x01\0\x40\0\0\x10\0\0\x10\0\0";

fn config() -> Config {
    let mut config = Config::default();
    config.streams = vec![name("chat")];
    config.max_message_size = 32 * KIB;
    config.max_parked = config.max_substreams;
    (config.high_watermark_bytes, config.low_watermark_bytes) = (64 * KIB, 32 * KIB);
    config
}

fn accepted(config: Config) -> (Endpoint, ConnectionId) {
    let seed = Seed::from_bytes([1; 32]);
    let mut endpoint = Endpoint::new(Instant::ZERO, identity(A), config, seed).unwrap();
    let id = endpoint.handle_accepted(Instant::ZERO, key(B));
    (endpoint, id)
}

fn data(substream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, flags];
    frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&substream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Takes outputs. Nothing that is to be written is ever written.
fn take(endpoint: &mut Endpoint) -> bool {
    let mut is_closed = false;
    loop {
        match endpoint.poll_output(Instant::ZERO) {
            Output::Timeout(_) => return is_closed,
            Output::Close { .. } => is_closed = true,
            _ => {}
        }
    }
}

#[test]
fn full_windows_are_all_that_a_pipe_holds() {
    let (mut limits, mux) = (config(), mux::Config::default());
    // So that all that the windows let in is held.
    limits.max_parked = usize::from(mux.max_substreams);
    let mut proposal = bytes::BytesMut::new();
    emit_proposal(&Profile::V1.stream_id(name("chat")), &mut proposal);
    let window = usize::try_from(mux.window).unwrap();
    let junk = vec![0xff; 16 * KIB];
    let alone = alone();
    let measured = alone.measure();
    let (mut endpoint, id) = accepted(limits.clone());
    endpoint.handle_bytes(Instant::ZERO, id, HELLO);
    for number in 0..u32::from(mux.max_substreams) {
        let substream = 2 * number + 1;
        endpoint.handle_bytes(Instant::ZERO, id, &data(substream, 1, &proposal));
        let mut left = window - proposal.len();
        while left > 0 {
            let count = left.min(junk.len());
            endpoint.handle_bytes(Instant::ZERO, id, &data(substream, 0, &junk[..count]));
            left -= count;
            take(&mut endpoint);
        }
    }
    let held = usize::try_from(mux.connection_window).unwrap() / 2;
    assert!(measured.now() >= held / 2, "{} bytes: nothing was held", measured.now());
    // A buffer that grows has room for as much again.
    let bound = limits.session_memory_bound() + 2 * held;
    assert!(measured.peak() <= bound, "{} bytes of {bound}", measured.peak());
    assert!(!take(&mut endpoint), "it keeps to the windows");
    // One byte more is too many.
    endpoint.handle_bytes(Instant::ZERO, id, &data(1, 0, &junk[..1]));
    take(&mut endpoint);
    assert_eq!(measured.now() / held, 0, "all is let go of");
}

#[test]
fn substreams_that_come_and_go_leave_nothing() {
    let alone = alone();
    let (mut endpoint, id) = accepted(config());
    endpoint.handle_bytes(Instant::ZERO, id, HELLO);
    take(&mut endpoint);
    let mut half = 0;
    let measured = alone.measure();
    for number in 0..40_000_u32 {
        let substream = 2 * number + 1;
        let mut frames = data(substream, 1, b"\x05hello and more");
        frames.extend_from_slice(&[5, 0, 0, 4]);
        frames.extend_from_slice(&substream.to_be_bytes());
        frames.extend_from_slice(&[0, 0, 0, 1]);
        endpoint.handle_bytes(Instant::ZERO, id, &frames);
        if take(&mut endpoint) {
            break;
        }
        if number == 20_000 {
            half = measured.now();
        }
    }
    assert!(measured.now() <= half + 4 * KIB, "{} bytes, and {half} half way", measured.now());
    assert!(measured.peak() <= 256 * KIB, "{} bytes", measured.peak());
}
