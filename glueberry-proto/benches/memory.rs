//! What the core holds for one idle Established peer: its half of the node, and its session.
//!
//! Counted by the allocator, both ends in one process; prints the mean of each end.

#![expect(clippy::print_stdout, reason = "a measuring program for a person")]

mod support;

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use support::{NOW, Pair, stream};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn main() {
    let idle = measure(|_| {});
    let used = measure(|pair| {
        for _ in 0..1000 {
            let message = Bytes::from_static(&[7; 64]);
            pair.a.session.send(NOW, &stream(), message).expect("there is room");
            pair.run();
            while pair.b.session.poll_message(&stream()).is_some() {}
        }
    });
    println!("core memory per idle Established peer, node and session:");
    println!("  after the handshake:                   {idle:6} bytes");
    println!("  after 1000 messages of 64 B, one way:  {used:6} bytes (mean of both ends)");
}

fn measure(use_it: impl Fn(&mut Pair)) -> usize {
    const PAIRS: u8 = 50;
    // What is made once per process is made before.
    drop(Pair::new(0));
    let before = ALLOCATOR.current_usage();
    let pairs: Vec<Pair> = (1..=PAIRS)
        .map(|number| {
            let mut pair = Pair::new(number);
            use_it(&mut pair);
            pair
        })
        .collect();
    let held = ALLOCATOR.current_usage() - before;
    let ends = 2 * pairs.len();
    drop(pairs);
    held / ends
}
