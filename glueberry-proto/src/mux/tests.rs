//! What scripts of random steps (`testing::mux`) don't show: the bytes, the clock, whose turn it is.

use std::time::Duration;

use super::*;

const HELLO: &str = "010000100000000047424d5800010002000000400000ffff";

fn config() -> Config {
    let mut config = Config::default();
    (config.max_substreams, config.window, config.connection_window) = (2, 64, 0xffff);
    config.max_frame = 16;
    config
}

fn mux(side: Direction) -> Mux {
    Mux::new(Instant::ZERO, side, config()).unwrap()
}

/// Returns a mux that has said hello, and whose peer has.
fn open(side: Direction) -> Mux {
    let mut mux = mux(side);
    assert_eq!(control(&mut mux), HELLO);
    assert_eq!(read(&mut mux, Instant::ZERO, HELLO), ["Ready"]);
    mux
}

fn control(mux: &mut Mux) -> String {
    let mut out = BytesMut::new();
    mux.write_control(&mut out);
    hex::encode(out)
}

fn read(mux: &mut Mux, now: Instant, bytes: &str) -> Vec<String> {
    let bytes = hex::decode(bytes).unwrap();
    let mut input = &bytes[..];
    let mut events = Vec::new();
    while let Some(event) = mux.read(now, &mut input) {
        events.push(format!("{event:?}"));
    }
    events
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

#[test]
fn the_bytes_of_a_substream() {
    let mut mux = open(Direction::Outbound);
    let id = mux.open().unwrap();
    let mut out = BytesMut::new();
    assert_eq!(mux.write(id, &mut Bytes::from_static(b"hi"), &mut out), 2);
    assert_eq!(hex::encode(&out), "02010002000000016869", "DATA, OPEN");
    mux.finish(id);
    assert_eq!(control(&mut mux), "0202000000000001", "DATA, FIN");
    assert_eq!(read(&mut mux, at(0), "0400000000000001"), ["Acknowledged { substream: Id(1) }"]);
    assert_eq!(
        read(&mut mux, at(0), "02020001000000017a"),
        ["Data { substream: Id(1), bytes: [122] }", "Finished { substream: Id(1) }"]
    );
    mux.acknowledge(id);
    assert_eq!(control(&mut mux), "0400000000000001", "ACK");
    mux.reset(id, 1);
    assert_eq!(control(&mut mux), "", "it is forgotten");
    let other = mux.open().unwrap();
    mux.reset(other, 2);
    assert_eq!(control(&mut mux), "0201000000000003050000040000000300000002", "OPEN, RESET");
}

#[test]
fn a_window_is_granted_again_when_half_of_it_is_taken() {
    let mut mux = open(Direction::Inbound);
    let data = format!("0201004000000001{}", "aa".repeat(64));
    assert_eq!(read(&mut mux, at(0), &data).len(), 2);
    mux.release(Id::new(1), 31);
    assert_eq!(control(&mut mux), "");
    mux.release(Id::new(1), 1);
    assert_eq!(control(&mut mux), "030000040000000100000020");
    // 32 are granted; one more is too many.
    let data = format!("0200002100000001{}", "aa".repeat(33));
    assert!(read(&mut mux, at(0), &data).is_empty());
    let exceeded = Violation::WindowExceeded { substream: 1 };
    assert_eq!(mux.closed(), Some(Closed::Misbehaved(exceeded)));
    assert_eq!(control(&mut mux), "070000040000000000000005");
}

#[test]
fn substreams_take_turns() {
    let mut mux = open(Direction::Outbound);
    let mut long = Bytes::from(vec![1; 40]);
    let (a, b) = (mux.open().unwrap(), mux.open().unwrap());
    assert_eq!(mux.open(), Err(OpenError::LimitReached { limit: 2 }));
    mux.want_write(a);
    mux.want_write(b);
    let mut turns = Vec::new();
    let mut short = Bytes::from(vec![2; 20]);
    while let Some(id) = mux.next_writable() {
        let bytes = if id == a { &mut long } else { &mut short };
        turns.push((id.as_u32(), mux.write(id, bytes, &mut BytesMut::new())));
    }
    assert_eq!(turns, [(1, 16), (3, 16), (1, 16), (3, 4), (1, 8), (3, 0), (1, 0)]);
}

#[test]
fn silence_is_pinged_and_then_ends_the_connection() {
    let mut mux = open(Direction::Inbound);
    assert_eq!(mux.poll_timeout(), Some(at(15)));
    mux.handle_timeout(at(15));
    assert_eq!(control(&mut mux), "06000008000000000000000000000000");
    assert_eq!(mux.poll_timeout(), Some(at(30)));
    // Whatever arrives is an answer.
    assert!(read(&mut mux, at(20), "0600000800000000000000000000000a").is_empty());
    assert_eq!(control(&mut mux), "0601000800000000000000000000000a");
    assert_eq!(mux.poll_timeout(), Some(at(35)));
    mux.handle_timeout(at(35));
    mux.handle_timeout(at(50));
    assert_eq!((mux.closed(), mux.is_over()), (Some(Closed::TimedOut), true));
}

#[test]
fn a_pipe_with_something_else_at_its_end_is_told_from_one_with_nothing() {
    let mut other = mux(Direction::Outbound);
    assert!(read(&mut other, at(0), &hex::encode("HTTP/1.1 400 Bad")).is_empty());
    let unknown = Violation::UnknownFrame { kind: b'H', flags: b'T' };
    assert_eq!(other.closed(), Some(Closed::Misbehaved(unknown)));
    let mut none = mux(Direction::Outbound);
    assert_eq!(none.open(), Err(OpenError::NotReady));
    none.handle_timeout(at(15));
    assert_eq!(none.closed(), Some(Closed::TimedOut));
}

#[test]
fn a_close_is_over_when_both_know() {
    let (mut a, mut b) = (open(Direction::Outbound), open(Direction::Inbound));
    let id = a.open().unwrap();
    let mut out = BytesMut::new();
    a.write(id, &mut Bytes::from_static(b"last"), &mut out);
    a.close(at(1), 3);
    assert_eq!(a.closed(), Some(Closed::Locally { code: 3 }));
    a.write_control(&mut out);
    assert!(!a.is_over(), "B may not have read it");
    let events = read(&mut b, at(1), &hex::encode(out));
    assert_eq!(events.len(), 2, "what was written before arrives: {events:?}");
    assert_eq!((b.closed(), b.is_over()), (Some(Closed::ByPeer { code: 3 }), false));
    let answer = control(&mut b);
    assert!(b.is_over());
    assert!(read(&mut a, at(1), &answer).is_empty());
    assert!(a.is_over() && a.poll_timeout().is_none());
    // Without an answer it is over after a time.
    let mut alone = open(Direction::Outbound);
    alone.close(at(1), 0);
    assert_eq!(alone.poll_timeout(), Some(at(4)));
    alone.handle_timeout(at(4));
    assert!(alone.is_over());
}

#[test]
fn what_was_acknowledged_is_known_to_the_peer_before_the_close() {
    let mut mux = open(Direction::Inbound);
    read(&mut mux, at(0), "020300010000000168");
    let id = Id::new(1);
    mux.release(id, 1);
    mux.acknowledge(id);
    mux.close(at(0), 0);
    assert_eq!(control(&mut mux), "0400000000000001070000040000000000000000", "ACK, CLOSE");
}

#[test]
fn what_a_peer_resets_leaves_nothing_behind() {
    let mut mux = open(Direction::Inbound);
    for number in 0..1000_u32 {
        let id = hex::encode((2 * number + 1).to_be_bytes());
        let frames = format!("02010001{id}aa05000004{id}00000001");
        assert_eq!(read(&mut mux, at(0), &frames).len(), 3);
        assert_eq!(mux.closed(), None);
        if number % 32 == 0 {
            // All of it was given back to the connection's window.
            control(&mut mux);
        }
    }
    // What is reset here holds its place until the peer can know.
    for number in [2001_u32, 2003] {
        read(&mut mux, at(0), &format!("02010001{}aa", hex::encode(number.to_be_bytes())));
        mux.reset(Id::new(number), 2);
    }
    read(&mut mux, at(0), "02010001000007d5aa");
    let many = Violation::TooManySubstreams { limit: 2 };
    assert_eq!(mux.closed(), Some(Closed::Misbehaved(many)));
}

#[test]
fn a_substream_that_is_over_for_the_peer_makes_room_though_its_reset_waits() {
    let mut mux = open(Direction::Inbound);
    for number in 0..10_u32 {
        let id = Id::new(2 * number + 1);
        let header = hex::encode(id.as_u32().to_be_bytes());
        read(&mut mux, at(0), &format!("02030001{header}aa"));
        mux.release(id, 1);
        mux.acknowledge(id);
        mux.finish(id);
        control(&mut mux);
        // The peer's acknowledgement is on its way.
        mux.reset(id, 2);
        assert!(read(&mut mux, at(0), &format!("04000000{header}")).is_empty());
        assert_eq!(mux.closed(), None);
    }
    assert_eq!(control(&mut mux), "", "nothing is left to reset");
}

/// Returns the mux of an accepting side that has read these frames, with a substream 1 of the peer.
fn told(frames: &str) -> Mux {
    let mut mux = open(Direction::Inbound);
    read(&mut mux, at(0), &format!("0201000100000001aa{frames}"));
    mux
}

#[test]
fn frames_about_what_was_not_begun_are_refused() {
    for (frames, violation) in [
        // DATA, OPEN with a number that was used, and with one of ours.
        ("0201000100000001aa", Violation::BadSubstream { substream: 1 }),
        ("0201000100000002aa", Violation::BadSubstream { substream: 2 }),
        // RESET of one of ours that was never opened, and of one of the peer's.
        ("050000040000000200000001", Violation::BadSubstream { substream: 2 }),
        ("050000040000000300000001", Violation::BadSubstream { substream: 3 }),
        // ACK of an end that was not sent.
        ("0400000000000001", Violation::EarlyAck { substream: 1 }),
        // WINDOW by nothing.
        ("030000040000000100000000", Violation::BadIncrement { substream: 1, increment: 0 }),
        // DATA, FIN and more behind it.
        ("02020000000000010200000100000001aa", Violation::BehindEnd { substream: 1 }),
    ] {
        assert_eq!(told(frames).closed(), Some(Closed::Misbehaved(violation)), "{frames}");
    }
}

/// Whatever is taken of a substream, the peer may send again on another.
#[test]
fn all_that_is_taken_is_given_back_to_the_connection() {
    for how in ["released", "acknowledged", "reset"] {
        let mut mux = open(Direction::Inbound);
        // More than twice the connection's window, in substreams of 64 bytes.
        for number in 0..3000_u32 {
            let id = Id::new(2 * number + 1);
            let header = hex::encode(id.as_u32().to_be_bytes());
            read(&mut mux, at(0), &format!("02030040{header}{}", "aa".repeat(64)));
            assert_eq!(mux.closed(), None, "{how} {number}");
            if how == "released" {
                mux.release(id, 64);
            }
            if how == "reset" {
                mux.reset(id, 1);
            } else {
                mux.acknowledge(id);
                mux.finish(id);
            }
            control(&mut mux);
            read(&mut mux, at(0), &format!("04000000{header}"));
        }
    }
}

/// Who closes says nothing but that.
#[test]
fn behind_a_close_nothing_else_is_written() {
    // PING, and DATA, FIN that was taken and whose substream was then reset.
    let mut mux = told("060000080000000000000000000000070202000000000001");
    mux.acknowledge(Id::new(1));
    mux.reset(Id::new(1), 2);
    mux.close(at(0), 3);
    assert_eq!(control(&mut mux), "070000040000000000000003");
}

#[test]
fn a_peer_that_misbehaves_after_a_close_is_not_waited_for() {
    let mut mux = told("");
    mux.close(at(0), 3);
    control(&mut mux);
    assert!(!mux.is_over());
    read(&mut mux, at(0), "ff00000000000000");
    assert_eq!((mux.closed(), mux.is_over()), (Some(Closed::Locally { code: 3 }), true));
}
