//! What a session holds at most.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::{
    Action, CloseReason, Config, Naming, PeerMisbehaved, Profile, READ_CHUNK, SubstreamEnd,
};
use proptest::prelude::*;

use crate::support::{Checked, Outcome, Raw, check, config, holds, name};
use crate::{Alone, Flood, KIB, alone, answer, pump, take};

fn small(profile: Profile) -> Config {
    let mut config = config(&["a", "b"]);
    config.profiles = vec![profile];
    config.max_message_size = 32 * KIB;
    config.max_handshake_size = 4 * KIB;
    (config.high_watermark, config.low_watermark) = (20, 10);
    (config.high_watermark_bytes, config.low_watermark_bytes) = (64 * KIB, 32 * KIB);
    (config.receive_queue, config.receive_queue_bytes) = (20, 64 * KIB);
    (config.max_streams, config.max_substreams) = (2, 4);
    config
}

/// One thing that the peer, the transport or the application does.
#[derive(Clone, Debug)]
enum Op {
    Pump(usize, usize),
    Junk(usize, u8),
    End(usize),
    Stop(usize),
    Open(usize),
    Answer(bool),
    Take(usize, usize),
    Send(usize, usize),
    Poll(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..5_usize, 0..300_000_usize).prop_map(|(at, most)| Op::Pump(at, most)),
        1 => (0..5_usize, any::<u8>()).prop_map(|(at, byte)| Op::Junk(at, byte)),
        1 => any::<usize>().prop_map(Op::End),
        1 => any::<usize>().prop_map(Op::Stop),
        2 => (0..3_usize).prop_map(Op::Open),
        2 => any::<bool>().prop_map(Op::Answer),
        3 => (any::<usize>(), 0..200_000_usize).prop_map(|(at, most)| Op::Take(at, most)),
        6 => (0..2_usize, 0..32 * KIB).prop_map(|(at, size)| Op::Send(at, size)),
        2 => (0..2_usize).prop_map(Op::Poll),
        1 => (0..20_000_u64).prop_map(Op::Wait),
    ]
}

const STREAMS: [&str; 2] = ["a", "b"];

/// Floods for each profile: large, small, growing and mixed messages, some of them spoilt.
fn floods(profile: Profile) -> [Bytes; 5] {
    static MADE: OnceLock<[[Bytes; 5]; 2]> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        [Profile::V1, Profile::V1Go].map(|profile| {
            let flood = |number, sizes: &[usize], spoils: &[usize]| {
                Flood::new(profile, number, sizes, 1_500 * KIB, spoils).bytes
            };
            [
                flood(1, &[32 * KIB], &[]),
                flood(2, &[0, 1, 100], &[3]),
                flood(3, &[32 * KIB, 10, 20 * KIB, 100], &[0, 2, 4, 6, 8]),
                flood(4, &[1, 10, 100, 1_000, 10_000, 30_000], &[5, 11]),
                flood(5, &[3_000], &[]),
            ]
        })
    });
    made[usize::from(profile == Profile::V1Go)].clone()
}

fn run(alone: &Alone, profile: Profile, ops: &[Op]) -> Checked {
    let mut floods = floods(profile);
    let measured = alone.measure();
    let config = small(profile);
    let bound = config.session_memory_bound();
    let (mut raw, handshake) = Raw::connected(Naming::Negotiated, config);
    raw.prepare(&STREAMS);
    raw.finalize();
    let mut ids = vec![handshake];
    ids.extend(["a", "b", "a", "b"].map(|stream| raw.open_stream(stream)));
    for op in ops {
        let id = |at: usize| ids[at % ids.len()];
        match op {
            Op::Pump(at, most) => {
                // Each flood has a substream of its own, opened in the beginning.
                let id = if *at == 0 { handshake } else { ids[*at] };
                pump(&mut raw, id, &mut floods[*at], *most);
            }
            Op::Junk(at, byte) => {
                pump(&mut raw, id(*at), &mut Bytes::from(vec![*byte; 20]), 20);
            }
            Op::End(at) => raw.end(id(*at), SubstreamEnd::Finished),
            Op::Stop(at) => raw.end(id(*at), SubstreamEnd::Stopped),
            Op::Open(at) => ids.push(raw.open_stream(STREAMS[at % 2])),
            Op::Answer(agrees) => ids.extend(answer(&mut raw, *agrees)),
            Op::Take(at, most) => take(&mut raw, id(*at), *most),
            Op::Send(at, size) => {
                let message = Bytes::from(vec![2; *size]);
                _ = raw.session.send(raw.now, &name(STREAMS[*at]), message);
                raw.settle();
            }
            Op::Poll(at) => _ = raw.session.poll_message(&name(STREAMS[*at])),
            Op::Wait(millis) => raw.wait(Duration::from_millis(*millis)),
        }
        raw.actions.retain(|action| matches!(action, Action::OpenSubstream { .. }));
        let peak = measured.peak();
        prop_assert!(peak <= bound, "{peak} bytes held, the bound is {bound}");
    }
    Ok(())
}

fn c10() -> Outcome {
    let profile = prop_oneof![Just(Profile::V1), Just(Profile::V1Go)];
    let ops = prop::collection::vec(op(), 0..300);
    let alone = alone();
    check((profile, ops), |(profile, ops)| run(&alone, profile, &ops))
}

#[test]
fn c10_memory_is_bounded_by_the_configuration() {
    holds(c10);
}

/// The bound is no fancy figure: a peer and an application that do their worst come close to it.
#[test]
fn c10_the_bound_is_not_far_from_what_can_be_reached() {
    let alone = alone();
    for profile in [Profile::V1, Profile::V1Go] {
        let mut config = small(profile);
        config.max_message_size = 1_000 * KIB;
        config.max_handshake_size = 64 * KIB;
        config.high_watermark_bytes = 2_000 * KIB;
        config.low_watermark_bytes = config.high_watermark_bytes - 1;
        config.receive_queue_bytes = 3_200 * KIB;
        let size = config.max_message_size;
        // The second is in the buffer of the first, and keeps it alive when that was taken.
        let flood = |number| Flood::new(profile, number, &[size, 40 * KIB], 5 * size, &[]).bytes;
        let mut floods = [flood(1), flood(2)];
        let bound = config.session_memory_bound();

        let measured = alone.measure();
        let mut raw = Raw::established(Naming::Negotiated, config, &STREAMS);
        let send = |raw: &mut Raw, stream, size| {
            raw.session.send(raw.now, &name(stream), Bytes::from(vec![3; size]))
        };
        let fill = |raw: &mut Raw| {
            for stream in STREAMS {
                // One byte is missing to the watermark when the last is sent.
                let less = usize::from(raw.session.queued(&name(stream)).0 == 0);
                _ = send(raw, stream, size - less);
                while send(raw, stream, size).is_ok() {}
            }
            raw.settle();
        };
        // Refused so often that all of it is given back, and not taken: one byte more, and nothing would
        // be accepted until it is.
        for stream in STREAMS {
            _ = send(&mut raw, stream, size);
            _ = send(&mut raw, stream, size - 1);
        }
        raw.settle();
        for _ in 0..10 {
            answer(&mut raw, false);
            raw.wait(Duration::from_secs(10));
        }
        fill(&mut raw);
        let own = answer(&mut raw, true);
        for id in &own {
            // Written, and kept in case a Go node wants it again.
            take(&mut raw, *id, 2 * size);
        }
        fill(&mut raw);
        for id in &own {
            take(&mut raw, *id, 1);
        }
        fill(&mut raw);
        let peers = STREAMS.map(|stream| raw.open_stream(stream));
        for (id, flood) in peers.iter().zip(&mut floods) {
            pump(&mut raw, *id, flood, usize::MAX);
        }
        for stream in STREAMS {
            assert_eq!(raw.session.poll_message(&name(stream)).map(|m| m.len()), Some(size));
            raw.settle();
        }
        for (id, flood) in peers.iter().zip(&mut floods) {
            pump(&mut raw, *id, flood, usize::MAX);
        }
        let peak = measured.peak();
        assert!(peak <= bound, "{profile:?}: {peak} bytes held, the bound is {bound}");
        assert!(5 * peak >= 3 * bound, "{profile:?}: {peak} bytes held, the bound is {bound}");
    }
}

#[test]
fn an_announced_length_reserves_nothing() {
    let alone = alone();
    for profile in [Profile::V1, Profile::V1Go] {
        let flood = Flood::new(profile, 1, &[3_000 * KIB], 1, &[]).bytes;
        let measured = alone.measure();
        let mut raw = Raw::chat(Naming::Negotiated, profile);
        let id = raw.open_stream("chat");
        let before = measured.now();
        for part in [5, 100, 10 * KIB] {
            pump(&mut raw, id, &mut flood.slice(..part), part);
            let held = measured.now().saturating_sub(before);
            assert!(held <= READ_CHUNK + 4 * KIB, "{held} bytes held for {part}");
            raw.end(id, SubstreamEnd::Reset);
            raw.open_stream("chat");
        }
    }
}

#[test]
fn what_is_gathered_grows_with_what_arrives() {
    let alone = alone();
    let mut flood = Flood::new(Profile::V1, 1, &[3_000 * KIB], 1, &[]).bytes;
    let measured = alone.measure();
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    let id = raw.open_stream("chat");
    let (before, mut arrived) = (measured.now(), 0);
    while flood.len() > 20 * KIB {
        pump(&mut raw, id, &mut flood, 10 * KIB);
        arrived += 10 * KIB;
        let held = measured.now() - before;
        assert!(held <= 2 * arrived + 2 * READ_CHUNK, "{held} bytes held for {arrived}");
    }
}

#[test]
fn a_message_as_large_as_the_last_is_gathered_where_it_stays() {
    const SIZE: usize = 3_000 * KIB;
    let alone = alone();
    let flood = Flood::new(Profile::V1, 1, &[SIZE], 5 * SIZE, &[]).bytes;
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    let id = raw.open_stream("chat");
    let (mut received, mut measured) = (0, alone.measure());
    // As datagrams arrive: several at a time, cut anywhere.
    for piece in flood.chunks(24 * 1_199) {
        let buffer = raw.buffers.get_mut(&id).unwrap();
        for datagram in piece.chunks(1_199) {
            buffer.append(&mut raw.session, raw.now, datagram);
        }
        buffer.received(&mut raw.session, raw.now);
        raw.settle();
        if raw.session.poll_message(&name("chat")).is_some() {
            received += 1;
            let peak = measured.peak();
            let most = if received == 1 { 2 * SIZE } else { SIZE + 2 * READ_CHUNK };
            assert!(peak <= most, "message {received}: {peak} bytes held");
            measured = alone.measure();
        }
    }
    assert_eq!(received, 5);
}

#[test]
fn oversize_inbound_refused_before_allocation() {
    let alone = alone();
    // A record has 28 bytes more than its message.
    let limit = 10 * MIB + 28;
    for announced in [limit + 1, 64 * MIB, 4 * 1024 * MIB - 1] {
        let measured = alone.measure();
        let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
        let id = raw.open_stream("chat");
        let before = measured.now();
        let header = u32::try_from(announced).unwrap().to_be_bytes();
        pump(&mut raw, id, &mut header.to_vec().into(), 4);
        let peak = measured.peak().saturating_sub(before);
        assert!(peak <= READ_CHUNK + 4 * KIB, "{peak} bytes held for {announced}");
        let CloseReason::Misbehaved(how) = raw.closed().reason else { panic!("it goes on") };
        let (stream, announced) = (Some(name("chat")), u64::try_from(announced).unwrap());
        assert_eq!(how, PeerMisbehaved::MessageTooLarge { stream, announced, limit });
    }
}

const MIB: usize = 1024 * KIB;
