//! What the core holds for one idle Established peer: its part of the node, its session and the
//! buffers of its substreams.
//!
//! Counted by the allocator, at one node with many peers. What the peers hold is not in it.

#![expect(clippy::print_stdout, reason = "a measuring program for a person")]

mod support;

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use support::{NOW, Pair, node, stream};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn main() {
    let idle = measure(|_| {});
    let used = measure(|pair| (0..1000).for_each(|_| exchange(pair)));
    println!("core memory per idle Established peer, at a node with {PEERS} of them:");
    println!("  after the handshake:                   {idle:6} bytes");
    println!("  after 1000 messages of 64 B each way:  {used:6} bytes");
}

/// Sends a small message each way.
fn exchange(pair: &mut Pair) {
    for side in [&mut pair.a, &mut pair.b] {
        let message = Bytes::from_static(&[7; 64]);
        side.session.send(NOW, &stream(), message).expect("there is room");
    }
    pair.run();
    for side in [&mut pair.a, &mut pair.b] {
        while side.session.poll_message(&stream()).is_some() {}
    }
}

fn measure(use_it: impl Fn(&mut Pair)) -> usize {
    // What is made once per process is made before.
    drop(Pair::new(0));
    let before = ALLOCATOR.current_usage();
    let mut hub = node(0, 1);
    let mut held = Vec::with_capacity(usize::from(PEERS));
    for number in 1..=PEERS {
        let mut pair = Pair::between(hub, node(number, 2));
        use_it(&mut pair);
        hub = pair.a.node;
        held.push((pair.a.session, pair.a.buffers));
    }
    let bytes = ALLOCATOR.current_usage() - before;
    drop((hub, held));
    bytes / usize::from(PEERS)
}

const PEERS: u8 = 200;
