//! Records that are played again: into the same session and the next, on each stream, in each
//! direction. Nothing of them is delivered.

use glueberry_proto::testing::pair::{A, B, Move, Side};
use glueberry_proto::{Event, Naming, Origin, Profile, Violation};

use super::{SECOND, classic, configs, established, events, stall, violation};
use crate::support::{Pipe, World, name, new_world, seeded_world};

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

/// Returns the records of what a side has sent, without the preamble.
fn records(flights: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let all = flights.concat();
    let mut rest = &all[PREAMBLE..];
    let mut records = Vec::new();
    while let Some((len, _)) = rest.split_first_chunk() {
        let (record, behind) = rest.split_at(2 + usize::from(u16::from_be_bytes(*len)));
        records.push(record.to_vec());
        rest = behind;
    }
    records
}

#[test]
fn a_record_on_the_same_substream_is_refused() {
    each(|from, stream| {
        // OPEN, and one for each message.
        for at in 0..4 {
            let mut world = established(Naming::Negotiated);
            let Recorded { pipe, flights } = record(&mut world, from, stream);
            let records = records(&flights);
            assert_eq!(records.len(), 4);
            inject(&mut world, 0, pipe, 1 - from, &records[at]);
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
    });
}

#[test]
fn behind_the_preamble_of_the_next_session_no_record_of_the_last_opens() {
    each(|from, stream| {
        for at in 0..4 {
            let mut world = established(Naming::Negotiated);
            let Recorded { flights, .. } = record(&mut world, from, stream);
            world.cut(0);
            world.run();
            world.establish(&STREAMS);
            let link = world.links.len() - 1;
            world.send(from, stream, b"new");
            world.run();
            let is_whole = |it: &Pipe| it.buffers.iter().all(Option::is_some);
            let pipe = world.links[link].pipes.iter().rposition(is_whole).unwrap();
            inject(&mut world, link, pipe, 1 - from, &records(&flights)[at]);
            assert_only(&world, 1 - from, stream, 4);
            let refused = violation(&world.app.closed(1 - from));
            assert_eq!(refused, Some(Violation::RecordAuthentication));
        }
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

/// All that a side has written on the handshake substream of an Established session, up to its end.
fn channel(from: Side) -> Vec<u8> {
    let mut world = new_world(Naming::Negotiated, [classic(&STREAMS), classic(&STREAMS)]);
    world.app.log.is_on = true;
    world.establish(&STREAMS);
    world.disconnect(from);
    world.run();
    world.app.log.wire.remove(&(0, from)).unwrap()
}

/// The same identities, with other seeds: the machines have no other source of randomness.
fn later_world() -> World {
    let configs = [classic(&STREAMS), classic(&STREAMS)];
    seeded_world(Naming::Negotiated, configs, [[11; 32], [21; 32]])
}

/// Returns where on a recorded handshake substream the records begin: behind CONFIRM.
fn sealed(recorded: &[u8]) -> usize {
    let mut at = 0;
    while recorded[at + 1] != 3 {
        at += 1 + usize::from(recorded[at]);
    }
    at + 1 + usize::from(recorded[at])
}

/// Begins a later session that `dialler` has dialled, in which an attacker speaks to `victim` in the
/// other's place. Returns why the victim refuses.
fn answer_to_handshake(dialler: Side, victim: Side, recorded: &[u8]) -> Option<Violation> {
    let mut world = later_world();
    world.link_up(dialler, Origin::Accepted);
    assert!(world.perform(Move::Arrive(0, victim)));
    world.intrude(0, victim, Some(Profile::V2.handshake_id()));
    inject(&mut world, 0, 0, victim, recorded);
    world.advance(2 * SECOND);
    violation(&world.app.closed(victim))
}

#[test]
fn a_recorded_handshake_confirms_nothing_in_the_next_session() {
    for from in [A, B] {
        let recorded = channel(from);
        let refused = answer_to_handshake(from, 1 - from, &recorded);
        // One side's ephemeral is not the one that was confirmed then.
        assert_eq!(refused, Some(Violation::BadConfirm));
    }
}

/// FINISHED and CLOSE, in the next session.
#[test]
fn no_record_of_the_control_channel_opens_in_the_next_session() {
    for from in [A, B] {
        let recorded = channel(from);
        let mut rest = &recorded[sealed(&recorded)..];
        let mut count = 0;
        while let Some((len, _)) = rest.split_first_chunk() {
            let (record, behind) = rest.split_at(2 + usize::from(u16::from_be_bytes(*len)));
            let mut world = later_world();
            world.establish(&STREAMS);
            let victim = 1 - from;
            inject(&mut world, 0, 0, victim, record);
            let refused = violation(&world.app.closed(victim));
            assert_eq!(refused, Some(Violation::RecordAuthentication));
            rest = behind;
            count += 1;
        }
        assert_eq!(count, 2);
    }
}

/// What a side has said itself on the control channel.
#[test]
fn a_reflected_handshake_is_refused() {
    for from in [A, B] {
        let recorded = channel(from);
        let refused = answer_to_handshake(from, from, &recorded);
        assert_eq!(refused, Some(Violation::BadConfirm));
    }
}

/// Nothing is to be said on a substream that the other side has opened: it is lost, and nothing else is.
#[test]
fn bytes_against_the_direction_of_a_substream_break_it() {
    let mut world = established(Naming::Negotiated);
    world.send(A, "chat", b"one");
    world.run();
    let pipes = world.links[0].pipes.len();
    inject(&mut world, 0, pipes - 1, A, b"x");
    world.send(A, "chat", b"two");
    world.advance(SECOND);
    assert_eq!(world.links[0].pipes.len(), pipes + 1);
    assert_eq!(world.app.received(B, "chat"), ["one", "two"]);
    assert!(world.session(A).is_established());
}
