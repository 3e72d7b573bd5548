//! Two honest ends.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::super::script::Script;
use crate::mux::{Closed, Config, Event, Id, Mux};
use crate::session::Direction;
use crate::time::Instant;

pub(super) fn run(configs: [Config; 2], script: &mut Script<'_>) {
    let mut pair = Pair::new(configs);
    while let Some(step) = script.next() {
        pair.step(usize::from(step & 1), step >> 1 & 7, script);
        pair.check();
    }
    pair.end();
}

struct Pair {
    now: Instant,
    ends: [End; 2],
}

struct End {
    mux: Mux,
    config: Config,
    /// What is on its way to the other end.
    pipe: BytesMut,
    substreams: BTreeMap<Id, Substream>,
    /// Those that one of the ends has reset: nothing is promised of them.
    reset: Vec<Id>,
}

#[derive(Debug, Default)]
struct Substream {
    /// Bytes to write next.
    queue: Bytes,
    queued: usize,
    is_finishing: bool,
    is_finished: bool,
    is_acknowledged: bool,
    received: usize,
    held: usize,
    has_ended: bool,
    has_acknowledged: bool,
}

impl Pair {
    fn new(configs: [Config; 2]) -> Self {
        let now = Instant::ZERO;
        let [a, b] = configs;
        let end = |side, config: Config| End {
            mux: Mux::new(now, side, config.clone()).expect("the configuration is good"),
            config,
            pipe: BytesMut::new(),
            substreams: BTreeMap::new(),
            reset: Vec::new(),
        };
        Self { now, ends: [end(Direction::Outbound, a), end(Direction::Inbound, b)] }
    }

    fn step(&mut self, side: usize, step: u8, script: &mut Script<'_>) {
        let number = script.number();
        let end = &mut self.ends[side];
        match step {
            0 => {
                if let Ok(id) = end.mux.open() {
                    let news = end.substreams.insert(id, Substream::default());
                    assert!(news.is_none(), "{id} again");
                }
            }
            1 => end.with(number, |mux, id, it| {
                if !it.is_finishing {
                    it.queue_more(id, number * 4);
                    mux.want_write(id);
                }
            }),
            2 => end.with(number, |mux, id, it| {
                it.is_finishing = true;
                mux.want_write(id);
                if it.queue.is_empty() && !std::mem::replace(&mut it.is_finished, true) {
                    mux.finish(id);
                }
            }),
            3 if number < 64 => {
                if let Some(id) = end.nth(number) {
                    end.mux.reset(id, 7);
                    end.substreams.remove(&id);
                    self.ends[0].reset.push(id);
                    self.ends[1].reset.push(id);
                }
            }
            3 | 4 => end.write(number * 16),
            5 => self.deliver(side, number * number + 1),
            6 => end.with(number, |mux, id, it| it.take(mux, id, 1 + number)),
            _ if number == 255 => end.mux.close(self.now, 3),
            _ => {
                self.now =
                    self.now + Duration::from_millis(50 * u64::try_from(number).unwrap_or(0));
                for end in &mut self.ends {
                    end.mux.handle_timeout(self.now);
                }
            }
        }
    }

    /// Moves bytes from the pipe of the other side to this one.
    fn deliver(&mut self, side: usize, count: usize) {
        let count = count.min(self.ends[1 - side].pipe.len());
        let bytes = self.ends[1 - side].pipe.split_to(count);
        self.ends[side].read(self.now, &bytes);
    }

    fn check(&self) {
        for end in &self.ends {
            let held: usize = end.substreams.values().map(|it| it.held).sum();
            assert!(held <= size(end.config.connection_window), "{held} bytes are held");
            for (id, it) in &end.substreams {
                assert!(it.held <= size(end.config.window), "{id} holds {} bytes", it.held);
            }
            assert!(end.mux.poll_timeout().is_none_or(|at| at > self.now), "in the past");
            assert!(!matches!(end.mux.closed(), Some(Closed::Misbehaved(_) | Closed::PipeEnded)));
        }
    }

    /// Takes everything, until nothing moves.
    fn end(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for side in [0, 1] {
                let end = &mut self.ends[side];
                end.write(usize::MAX);
                let ids: Vec<Id> = end.substreams.keys().copied().collect();
                for id in ids {
                    let End { mux, substreams, .. } = end;
                    if let Some(it) = substreams.get_mut(&id) {
                        moved |= it.held > 0;
                        it.take(mux, id, usize::MAX);
                    }
                }
                moved |= !self.ends[1 - side].pipe.is_empty();
                self.deliver(side, usize::MAX);
                self.check();
            }
            let is_at_rest = |end: &End| !end.mux.has_control() && end.pipe.is_empty();
            if !moved && self.ends.iter().all(is_at_rest) {
                return self.judge();
            }
        }
        panic!("the ends do not come to rest");
    }

    fn judge(&self) {
        let is_open = |end: &End| end.mux.closed().is_none();
        if !self.ends.iter().all(is_open) {
            return;
        }
        for side in [0, 1] {
            let (end, other) = (&self.ends[side], &self.ends[1 - side]);
            for (id, it) in &end.substreams {
                if end.reset.contains(id) {
                    continue;
                }
                let peers = other.substreams.get(id).expect("the peer has accepted it");
                assert_eq!(it.queue.len(), 0, "{id} stalls");
                assert_eq!(it.queued, peers.received, "{id}");
                assert_eq!(it.is_finishing, peers.has_ended, "{id}: the end");
                assert_eq!(it.is_acknowledged, it.is_finishing, "{id}: its acknowledgement");
            }
        }
    }
}

impl End {
    fn nth(&self, number: usize) -> Option<Id> {
        let count = self.substreams.len().max(1);
        self.substreams.keys().nth(number % count).copied()
    }

    fn with(&mut self, number: usize, act: impl FnOnce(&mut Mux, Id, &mut Substream)) {
        if let Some(id) = self.nth(number)
            && let Some(it) = self.substreams.get_mut(&id)
        {
            act(&mut self.mux, id, it);
        }
    }

    fn write(&mut self, budget: usize) {
        let until = self.pipe.len().saturating_add(budget);
        self.mux.write_control(&mut self.pipe);
        while self.pipe.len() < until
            && let Some(id) = self.mux.next_writable()
        {
            let it = self.substreams.get_mut(&id).expect("only what is known here is writable");
            let before = self.pipe.len();
            let count = self.mux.write(id, &mut it.queue, &mut self.pipe);
            assert!(count <= usize::from(self.config.max_frame), "{count} in one frame");
            assert_eq!(self.pipe.len() - before, count + if count > 0 { 8 } else { 0 });
            if it.queue.is_empty()
                && it.is_finishing
                && !std::mem::replace(&mut it.is_finished, true)
            {
                self.mux.finish(id);
            }
        }
        self.mux.write_control(&mut self.pipe);
    }

    fn read(&mut self, now: Instant, mut bytes: &[u8]) {
        while let Some(event) = self.mux.read(now, &mut bytes) {
            match event {
                Event::Ready => {}
                Event::Accepted { substream } => {
                    let news = self.substreams.insert(substream, Substream::default());
                    assert!(news.is_none(), "{substream} again");
                }
                Event::Data { substream, bytes } => {
                    let it = self.substreams.get_mut(&substream).expect("it is known");
                    assert!(!it.has_ended && !bytes.is_empty());
                    for byte in bytes {
                        assert_eq!(*byte, pattern(substream, it.received), "{substream}");
                        it.received += 1;
                    }
                    it.held += bytes.len();
                }
                Event::Finished { substream } => {
                    let it = self.substreams.get_mut(&substream).expect("it is known");
                    assert!(!std::mem::replace(&mut it.has_ended, true));
                }
                Event::Reset { substream, code } => {
                    assert_eq!(code, 7);
                    assert!(self.substreams.remove(&substream).is_some());
                }
                Event::Acknowledged { substream } => {
                    let it = self.substreams.get_mut(&substream).expect("it is known");
                    assert!(it.is_finished && !std::mem::replace(&mut it.is_acknowledged, true));
                }
            }
        }
        assert!(bytes.is_empty(), "all is taken");
    }
}

impl Substream {
    fn queue_more(&mut self, id: Id, count: usize) {
        let mut all = BytesMut::from(&self.queue[..]);
        all.extend((self.queued..self.queued + count).map(|at| pattern(id, at)));
        self.queued += count;
        self.queue = all.freeze();
        self.queue.advance(0);
    }

    fn take(&mut self, mux: &mut Mux, id: Id, count: usize) {
        let count = count.min(self.held);
        self.held -= count;
        mux.release(id, count);
        let is_taken = self.held == 0 && self.has_ended;
        if is_taken && !std::mem::replace(&mut self.has_acknowledged, true) {
            mux.acknowledge(id);
        }
    }
}

/// The byte of a substream at a position; the same from both sides.
fn pattern(id: Id, at: usize) -> u8 {
    u8::try_from(at % 251).unwrap_or(0) ^ id.as_u32().to_le_bytes()[0]
}

fn size(window: u32) -> usize {
    usize::try_from(window).unwrap_or(usize::MAX)
}
