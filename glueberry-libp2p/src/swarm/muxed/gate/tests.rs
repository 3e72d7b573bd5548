use std::task::{Context, Poll, Waker};

use futures_util::io::{AsyncRead, Cursor};
use glueberry_tokio::runtime::{Runtime, TokioRuntime};

use super::*;
use crate::swarm::windows::at_a_time;

const LEN: usize = 16 * 1024;
const ACK: u16 = 2;

fn frame(kind: u8, flags: u16, substream: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    let head: [&[u8]; 4] =
        [&[0, kind], &flags.to_be_bytes(), &substream.to_be_bytes(), &len.to_be_bytes()];
    [&head.concat(), body].concat()
}

fn gate(overflow: Overflow, max_substreams: usize) -> Arc<Gate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current().unwrap());
    Gate::new(overflow, max_substreams, Negotiations::new(&runtime, at_a_time(64)))
}

/// A connection on which all of this has come.
fn gated(gate: &Arc<Gate>, frames: &[Vec<u8>]) -> Gated<Cursor<Vec<u8>>> {
    Gated::new(Cursor::new(frames.concat()), gate.clone())
}

/// Reads all that is let in.
fn read(from: &mut Gated<Cursor<Vec<u8>>>) -> (usize, Option<io::ErrorKind>) {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut buffer, mut total) = ([0; 4096], 0);
    loop {
        match Pin::new(&mut *from).poll_read(&mut cx, &mut buffer) {
            Poll::Ready(Ok(0)) | Poll::Pending => return (total, None),
            Poll::Ready(Ok(count)) => total += count,
            Poll::Ready(Err(error)) => return (total, Some(error.kind())),
        }
    }
}

fn held(gate: &Gate) -> usize {
    gate.lock().held
}

#[test]
fn what_is_not_read_is_bounded_over_all_substreams() {
    let gate = gate(Overflow::Waits, 100);
    let frames: Vec<_> = (0..20).map(|id| frame(0, SYN, 2 * id + 1, &[7; LEN])).collect();
    let mut connection = gated(&gate, &frames);
    assert_eq!(read(&mut connection), (3 * (HEADER + LEN), None));
    assert!(held(&gate) <= BASE);
    assert_eq!(read(&mut connection), (0, None));
    gate.read(3, LEN - 1);
    // One byte of it is still there, with the place that it takes.
    gate.read(5, LEN);
    assert_eq!(read(&mut connection), (2 * (HEADER + LEN), None));
    gate.dropped(1);
    gate.dropped(7);
    assert_eq!(read(&mut connection), (2 * (HEADER + LEN), None));
}

/// What opens a substream waits while the peer is ahead of its pace, and all behind it; over a relay that
/// ends the connection.
#[tokio::test]
async fn substreams_are_let_in_at_a_pace() {
    for overflow in [Overflow::Waits, Overflow::Fails] {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current().unwrap());
        let negotiations = Negotiations::new(&runtime, at_a_time(64));
        let gate = Gate::new(overflow, 100, negotiations.clone());
        let frames = [frame(1, SYN, 1, &[]), frame(0, 0, 1, b"first"), frame(1, SYN, 3, &[])];
        let mut connection = gated(&gate, &frames);
        while !pending(&negotiations) {
            drop(negotiations.begin());
        }
        gate.opened(1);
        let first = 2 * HEADER + 5;
        let read = read(&mut connection);
        match overflow {
            Overflow::Fails => assert_eq!(read, (first, Some(io::ErrorKind::Other))),
            Overflow::Waits => {
                assert_eq!(read, (first, None));
                assert!(Window::is_held_back(&*gate));
                let mut rest = [0; HEADER];
                let mut all = 0;
                while all < HEADER {
                    all += std::future::poll_fn(|cx| {
                        Pin::new(&mut connection).poll_read(cx, &mut rest[all..])
                    })
                    .await
                    .unwrap();
                }
                assert!(!Window::is_held_back(&*gate));
            }
        }
    }
}

fn pending(negotiations: &Negotiations) -> bool {
    negotiations.poll_pace(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn one_frame_is_always_let_in_and_its_bytes_come_unaltered() {
    let gate = gate(Overflow::Waits, 100);
    let long = vec![9; 200 * 1024];
    let frames = [frame(1, SYN, 1, &[]), frame(0, 0, 1, &long), frame(0, 0, 1, &[1])];
    let mut connection = gated(&gate, &frames);
    let mut bytes = vec![0; 2 * HEADER + long.len()];
    let mut cx = Context::from_waker(Waker::noop());
    let mut at = 0;
    while at < bytes.len() {
        let polled = Pin::new(&mut connection).poll_read(&mut cx, &mut bytes[at..]);
        let Poll::Ready(Ok(count)) = polled else {
            panic!("{polled:?}");
        };
        at += count;
    }
    assert_eq!(bytes, frames[..2].concat());
    assert_eq!(read(&mut connection), (0, None));
    gate.read(1, long.len());
    assert_eq!(read(&mut connection), (HEADER + 1, None));
}

/// yamux allocates for each frame, however short.
#[test]
fn short_frames_count_with_what_they_cost() {
    let gate = gate(Overflow::Waits, 100);
    let mut frames = vec![frame(0, SYN, 1, &[7])];
    frames.extend((0..10_000).map(|_| frame(0, 0, 1, &[7])));
    let mut connection = gated(&gate, &frames);
    assert_eq!(read(&mut connection), (BASE / (1 + PER_FRAME) * (HEADER + 1), None));
}

#[test]
fn what_belongs_to_no_substream_is_let_through_and_not_counted() {
    let gate = gate(Overflow::Waits, 100);
    let body = [7; LEN];
    let mut frames = vec![frame(0, SYN, 1, &body), frame(0, RST, 1, &body)];
    frames.extend((0..20).map(|_| frame(0, 0, 9, &body)));
    frames.extend((0..20).map(|_| frame(2, ACK, 0, &[])));
    let all = frames.concat().len();
    assert_eq!(read(&mut gated(&gate, &frames)), (all, None));
    assert_eq!(held(&gate), LEN + PER_FRAME);
}

#[test]
fn what_no_window_allows_ends_the_connection() {
    let gate = gate(Overflow::Waits, 2);
    let opened = [frame(0, SYN, 1, &[]), frame(1, SYN, 3, &[])];
    let more = [&opened[..], &[frame(1, SYN, 5, &[])]].concat();
    let (count, error) = read(&mut gated(&gate, &more));
    assert_eq!((count, error.is_some()), (2 * HEADER, true));
    let long = [frame(0, 0, 1, &vec![7; 256 * 1024 + 1])];
    let (count, error) = read(&mut gated(&gate, &long));
    assert_eq!((count, error.is_some()), (0, true));
    // Cut off within a header.
    let cut = [frame(1, 0, 1, &[])[..5].to_vec()];
    assert_eq!(read(&mut gated(&gate, &cut)), (0, Some(io::ErrorKind::UnexpectedEof)));
}

/// The connection with the relay could not wait for it without making others wait.
#[test]
fn over_a_relay_too_much_ends_the_connection() {
    let gate = gate(Overflow::Fails, 100);
    let frames: Vec<_> = (0..40).map(|id| frame(0, SYN, 2 * id + 1, &[7; LEN])).collect();
    let (count, error) = read(&mut gated(&gate, &frames));
    assert!(count > ONE_SUBSTREAM && count <= BASE + ONE_SUBSTREAM, "{count}");
    assert!(error.is_some());
}
