//! Records that are played again: into the same session and the next, on each stream, in each
//! direction. Nothing of them is delivered.

use glueberry_proto::testing::pair::{A, B, Side};
use glueberry_proto::{Event, Naming, Profile, Violation};

use super::{configs, established, events, stall, violation};
use crate::support::{World, name, new_world};

const STREAMS: [&str; 2] = ["chat", "sync"];
const PREAMBLE: usize = 12;

/// What a side has sent on a stream, as it went over the wire.
struct Recorded {
    pipe: usize,
    /// The first with the preamble of the instance, and two records; the others with one record.
    flights: Vec<Vec<u8>>,
}

/// Has a side send messages, and records them.
fn record(world: &mut World, from: Side, stream: &str) -> Recorded {
    let (mut pipe, mut flights) = (0, Vec::new());
    for message in [&b"first"[..], b"second", b"third"] {
        world.send(from, stream, message);
        pipe = stall(world, 1 - from);
        flights.push(world.links[0].pipes[pipe].towards[1 - from].bytes.to_vec());
        world.run();
    }
    assert_eq!(world.app.received(1 - from, stream).len(), 3);
    Recorded { pipe, flights }
}

/// Puts bytes on a substream, behind what was there.
fn inject(world: &mut World, link: usize, pipe: usize, to: Side, bytes: &[u8]) {
    world.links[link].pipes[pipe].towards[to].bytes.extend_from_slice(bytes);
    world.run();
}

/// Opens a substream of a stream as the peer would, with these bytes.
fn intrude(world: &mut World, link: usize, to: Side, stream: &str, bytes: &[u8]) {
    let protocol = Profile::V2.stream_id(name(stream));
    world.intrude(link, to, Some(protocol));
    let pipe = world.links[link].pipes.len() - 1;
    inject(world, link, pipe, to, bytes);
}

/// Checks that a side has received nothing but what was sent to it on one stream.
fn assert_only(world: &World, side: Side, stream: &str, messages: usize) {
    for other in STREAMS {
        let expected = if other == stream { messages } else { 0 };
        assert_eq!(world.app.received(side, other).len(), expected);
    }
}

fn each(mut test: impl FnMut(Side, &str)) {
    for from in [A, B] {
        STREAMS.iter().for_each(|stream| test(from, stream));
    }
}

#[test]
fn a_record_on_the_same_substream_is_refused() {
    each(|from, stream| {
        for at in 0..3 {
            let mut world = established(Naming::Negotiated);
            let Recorded { pipe, flights } = record(&mut world, from, stream);
            let records = &flights[at][if at == 0 { PREAMBLE } else { 0 }..];
            inject(&mut world, 0, pipe, 1 - from, records);
            assert_only(&world, 1 - from, stream, 3);
            let refused = violation(&world.app.closed(1 - from));
            assert_eq!(refused, Some(Violation::RecordAuthentication));
        }
    });
}

#[test]
fn an_instance_on_another_substream_is_refused() {
    each(|from, stream| {
        for on in STREAMS {
            let mut world = established(Naming::Negotiated);
            let recorded = record(&mut world, from, stream);
            intrude(&mut world, 0, 1 - from, on, &recorded.flights.concat());
            assert_only(&world, 1 - from, stream, 3);
            let expected = match on == stream {
                true => Violation::Instance,
                false => Violation::RecordAuthentication,
            };
            assert_eq!(violation(&world.app.closed(1 - from)), Some(expected));
        }
    });
}

#[test]
fn what_a_side_has_sent_itself_is_refused() {
    each(|from, stream| {
        let mut world = established(Naming::Negotiated);
        let Recorded { pipe, flights } = record(&mut world, from, stream);
        // On the half that carries nothing it is not even looked at.
        inject(&mut world, 0, pipe, from, &flights[1]);
        assert_only(&world, from, stream, 0);
        assert!(world.session(from).is_established());
        intrude(&mut world, 0, from, stream, &flights.concat());
        assert_only(&world, from, stream, 0);
        let refused = violation(&world.app.closed(from));
        assert_eq!(refused, Some(Violation::RecordAuthentication));
    });
}

#[test]
fn the_next_session_takes_nothing_of_the_last() {
    each(|from, stream| {
        let mut world = established(Naming::Negotiated);
        let Recorded { flights, .. } = record(&mut world, from, stream);
        world.cut(0);
        world.run();
        world.establish(&STREAMS);
        let link = world.links.len() - 1;
        for on in STREAMS {
            intrude(&mut world, link, 1 - from, on, &flights.concat());
            intrude(&mut world, link, from, on, &flights.concat());
        }
        assert_only(&world, 1 - from, stream, 3);
        assert_only(&world, from, stream, 0);
        for side in [A, B] {
            assert!(world.session(side).is_established(), "late substreams are no violation");
        }
        // Behind the preamble of the new session they open nothing either.
        world.send(from, stream, b"new");
        world.run();
        let pipe =
            world.links[link].pipes.iter().rposition(|it| it.buffers.iter().all(Option::is_some));
        inject(&mut world, link, pipe.unwrap(), 1 - from, &flights[1]);
        assert_only(&world, 1 - from, stream, 4);
        let refused = violation(&world.app.closed(1 - from));
        assert_eq!(refused, Some(Violation::RecordAuthentication));
    });
}

#[test]
fn a_sealed_handshake_message_is_refused_the_second_time() {
    for from in [A, B] {
        let mut world = new_world(Naming::Negotiated, configs());
        world.connect(A);
        world.run();
        world.send_handshake(from, b"sealed");
        let pipe = stall(&mut world, 1 - from);
        let recorded = world.links[0].pipes[pipe].towards[1 - from].bytes.to_vec();
        world.run();
        inject(&mut world, 0, pipe, 1 - from, &recorded);
        assert_eq!(world.app.sides[1 - from].handshake, ["sealed"]);
        let refused = violation(&world.app.closed(1 - from));
        assert_eq!(refused, Some(Violation::RecordAuthentication));
        assert!(!events(&world, from).iter().any(|it| matches!(it, Event::Established(_))));
    }
}
