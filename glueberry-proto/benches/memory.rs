//! What the core holds for one idle Established peer: its part of the node, its session and the
//! buffers of its substreams.
//!
//! Counted by the allocator, at one node with many peers. What the peers hold is not in it.

#![expect(clippy::print_stdout, reason = "a measuring program for a person")]

mod support;

use std::time::Duration;

use glueberry_proto::testing::pair::{A, B, Host, Pair};
use glueberry_proto::{Node, Profile, Session, SubstreamBuffer};
use peak_alloc::PeakAlloc;
use support::{STREAM, established, node, stream};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn main() {
    println!("core memory per idle Established peer, at a node with {PEERS} of them:");
    for profile in [Profile::V1, Profile::V2] {
        let idle = measure(profile, |_| {});
        let used = measure(profile, |pair| (0..1000).for_each(|_| exchange(pair)));
        println!("  {profile}, after the handshake:                   {idle:6} bytes");
        println!("  {profile}, after 1000 messages of 64 B each way:  {used:6} bytes");
    }
}

/// Sends a small message each way.
fn exchange(pair: &mut Pair<()>) {
    for side in [A, B] {
        pair.send(side, STREAM, &[7; 64]);
    }
    pair.run();
    for side in [A, B] {
        while pair.session(side).poll_message(&stream()).is_some() {}
    }
}

fn measure(profile: Profile, use_it: impl Fn(&mut Pair<()>)) -> usize {
    // What is made once per process is made before.
    drop(established([node(profile, 0, 1), node(profile, 0, 2)]));
    let before = ALLOCATOR.current_usage();
    let mut hub = node(profile, 0, 1);
    let mut held = Vec::with_capacity(usize::from(PEERS));
    for number in 1..=PEERS {
        let mut pair = established([hub, node(profile, number, 2)]);
        use_it(&mut pair);
        // Idle is who has done nothing for a while. The node has the time of the pair before.
        pair.advance(Duration::from_secs(5) * u32::from(number));
        let (node, session, buffers) = keep_first(pair);
        hub = node;
        held.push((session, buffers));
    }
    let bytes = ALLOCATOR.current_usage() - before;
    drop((hub, held));
    bytes / usize::from(PEERS)
}

/// Drops all but what the first side holds.
fn keep_first(pair: Pair<()>) -> (Node, Session, Box<[SubstreamBuffer]>) {
    let Pair { hosts: [Host { node, sessions, .. }, _], links, .. } = pair;
    let session = sessions.into_values().next().expect("it is established");
    let pipes = links.into_iter().flat_map(|link| link.pipes);
    let buffers = pipes.filter_map(|pipe| {
        let [first, _] = pipe.buffers;
        first
    });
    (node, session, buffers.collect())
}

const PEERS: u8 = 200;
