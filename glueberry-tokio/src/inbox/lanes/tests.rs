use std::time::SystemTime;

use glueberry_proto::Config;
use libp2p_identity::Keypair;

use super::*;
use crate::memory::Account;

fn peer(number: u8) -> PeerId {
    Keypair::ed25519_from_bytes([number; 32]).unwrap().public().to_peer_id()
}

/// Fills all the room that a peer gets, and waits for more; returns how much that was.
fn fill(lanes: &mut Lanes, peer: PeerId) -> usize {
    fill_by(lanes, peer, &mut Turn::default())
}

fn fill_by(lanes: &mut Lanes, peer: PeerId, turn: &mut Turn) -> usize {
    let memory = Account::new(Config::default().memory_limits()).of(peer, false);
    let mut filled = 0;
    loop {
        let room = lanes.reserve(peer, 50);
        if room == 0 {
            lanes.wait(peer, turn, &Context::from_waker(Waker::noop()));
            return filled;
        }
        let source = Source { peer, stream: None, received_at: SystemTime::UNIX_EPOCH };
        let data = (0..room).map(|_| Bytes::from_static(b"x")).collect();
        let run = Run::new(source, data, room * cost(1), &memory);
        lanes.push(peer, turn, room, Some(run));
        filled += room;
    }
}

fn take(lanes: &mut Lanes) -> Vec<PeerId> {
    let mut batch = VecDeque::new();
    lanes.take(32, &mut batch);
    batch.iter().flat_map(|run| run.data.iter().map(|_| run.source.peer)).collect()
}

#[test]
fn one_that_is_alone_has_all_the_room() {
    let mut lanes = Lanes::new(100);
    assert_eq!(fill(&mut lanes, peer(1)), 100);
    assert_eq!(take(&mut lanes).len(), 32);
}

#[test]
fn a_full_inbox_has_room_for_one_of_each_other_peer_whose_turn_is_next() {
    let mut lanes = Lanes::new(100);
    fill(&mut lanes, peer(1));
    assert_eq!(fill(&mut lanes, peer(2)), 1);
    assert_eq!(fill(&mut lanes, peer(3)), 1);
    let order = take(&mut lanes);
    assert_eq!(order[TURN..TURN + 2], [peer(2), peer(3)]);
}

#[test]
fn those_that_send_much_get_equal_parts() {
    let mut lanes = Lanes::new(100);
    fill(&mut lanes, peer(1));
    let mut counts = BTreeMap::new();
    for _ in 0..200 {
        for number in [1, 2, 3] {
            fill(&mut lanes, peer(number));
        }
        for peer in take(&mut lanes) {
            *counts.entry(peer).or_insert(0_usize) += 1;
        }
    }
    let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
    assert!(least * 4 > most * 3, "{counts:?}");
}

/// Of two sessions of a peer, the older one goes when the newer one waits.
#[test]
fn a_writer_of_an_earlier_time_takes_nothing_from_one_that_waits() {
    let (mut lanes, cx) = (Lanes::new(10), Context::from_waker(Waker::noop()));
    let (mut earlier, mut later) = (Turn::default(), Turn::default());
    lanes.wait(peer(1), &mut earlier, &cx);
    // It is woken, and has no more.
    assert_eq!(lanes.push(peer(1), &mut earlier, 0, None).len(), 1);
    assert!(lanes.is_unused());
    lanes.wait(peer(1), &mut later, &cx);
    assert!(lanes.stop_waiting(peer(1), &mut earlier).is_none());
    assert!(lanes.stop_waiting(peer(1), &mut later).is_some());
    assert!(lanes.is_unused());
}

/// Two streams of a peer have the same reader. One that was woken, and whose turn has not come yet,
/// is waited for though the other has run out.
#[test]
fn a_writer_that_was_woken_is_waited_for() {
    let (mut lanes, cx) = (Lanes::new(10), Context::from_waker(Waker::noop()));
    let [mut one, mut other] = [Turn::default(), Turn::default()];
    lanes.wait(peer(1), &mut one, &cx);
    assert_eq!(lanes.take_writers(None).len(), 1);
    lanes.push(peer(1), &mut other, 0, None);
    assert!(!lanes.is_unused());
    lanes.push(peer(1), &mut one, 0, None);
    assert!(lanes.is_unused());
}

#[test]
fn nothing_is_left_of_lanes_that_are_not_used() {
    let mut lanes = Lanes::new(10);
    for number in 0..100 {
        let mut turn = Turn::default();
        fill_by(&mut lanes, peer(number), &mut turn);
        while !lanes.is_empty() {
            take(&mut lanes);
        }
        match number % 2 {
            // It has no more.
            0 => drop(lanes.push(peer(number), &mut turn, 0, None)),
            // It goes.
            _ => drop(lanes.stop_waiting(peer(number), &mut turn)),
        }
    }
    assert_eq!((lanes.room.lanes, lanes.turns.len(), lanes.room.used), (0, 0, 0));
    assert!(lanes.table.len() <= IDLE_LANES);
}
