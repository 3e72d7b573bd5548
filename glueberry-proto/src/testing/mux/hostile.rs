//! One end against a peer that sends what it likes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::script::Script;
use crate::mux::{Closed, Config, Event, Id, Mux};
use crate::session::Direction;
use crate::time::Instant;

pub(super) fn run(config: &Config, script: &mut Script<'_>) {
    let now = Instant::ZERO;
    let side = if script.byte() & 1 == 0 { Direction::Outbound } else { Direction::Inbound };
    let mux = Mux::new(now, side, config.clone()).expect("the configuration is good");
    let mut play = Play {
        mux,
        config,
        now,
        held: BTreeMap::new(),
        own: 0,
        out: BytesMut::new(),
        closed: None,
    };
    if script.byte() & 3 != 0 {
        play.read(b"\x01\0\0\x10\0\0\0\0GBMX\0\x01\0\x02\0\0\0\x40\0\0\x01\0");
    }
    while let Some(step) = script.next() {
        play.step(step, script);
        play.check();
    }
}

struct Play<'a> {
    mux: Mux,
    config: &'a Config,
    now: Instant,
    /// The substreams that are known, with the bytes that wait on each.
    held: BTreeMap<Id, usize>,
    own: usize,
    out: BytesMut,
    closed: Option<Closed>,
}

impl Play<'_> {
    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let number = script.byte();
        match step & 15 {
            0 => {
                if let Ok(id) = self.mux.open() {
                    self.own += 1;
                    assert!(self.held.insert(id, 0).is_none(), "{id} again");
                }
            }
            1 => {
                self.out.clear();
                self.mux.write_control(&mut self.out);
                let control = self.out.len();
                // A hostile peer makes it write no more than a few frames per substream.
                let substreams = 2 * usize::from(self.config.max_substreams);
                assert!(
                    control <= 24 + 3 * 16 + 12 + substreams * 40,
                    "{control} bytes of control"
                );
            }
            2 => {
                if let Some(id) = self.nth(number) {
                    self.mux.want_write(id);
                }
                self.out.clear();
                while self.out.len() < 4096
                    && let Some(id) = self.mux.next_writable()
                {
                    self.mux.write(id, &mut Bytes::from_static(b"some bytes"), &mut self.out);
                }
            }
            3 => {
                if let Some(id) = self.nth(number) {
                    self.mux.finish(id);
                }
            }
            4 => {
                if let Some(id) = self.nth(number) {
                    self.mux.reset(id, 1);
                    self.held.remove(&id);
                }
            }
            5 | 6 => {
                if let Some(id) = self.nth(number) {
                    let held = self.held.insert(id, 0).unwrap_or(0);
                    self.mux.release(id, held);
                    self.mux.acknowledge(id);
                }
            }
            7 if number > 250 => self.mux.close(self.now, 9),
            7 => {
                self.now = self.now + Duration::from_millis(u64::from(number) * 20);
                self.mux.handle_timeout(self.now);
            }
            8 | 9 => self.read(script.take(usize::from(number))),
            kind => {
                let mut frame = BytesMut::new();
                frame.put_u8(kind - 8);
                frame.put_u8(step >> 4 & 3);
                let payload = script.take(usize::from(number & 63));
                let announced = if number & 64 == 0 { payload.len() } else { 4 };
                frame.put_u16(u16::try_from(announced).unwrap_or(0));
                frame.put_u32(u32::from(script.byte() % 12));
                frame.extend_from_slice(payload);
                self.read(&frame);
            }
        }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(event) = self.mux.read(self.now, &mut bytes) {
            assert!(self.closed.is_none(), "{event:?} behind the end");
            match event {
                Event::Ready => {}
                Event::Accepted { substream } => {
                    assert!(self.held.insert(substream, 0).is_none(), "{substream} again");
                }
                Event::Data { substream, bytes } => {
                    *self.held.get_mut(&substream).expect("it is known") += bytes.len();
                }
                Event::Finished { substream } | Event::Acknowledged { substream } => {
                    assert!(self.held.contains_key(&substream));
                }
                Event::Reset { substream, .. } => {
                    assert!(self.held.remove(&substream).is_some());
                }
            }
        }
        assert!(bytes.is_empty(), "all is taken");
    }

    fn check(&mut self) {
        let closed = self.mux.closed();
        assert!(self.closed.is_none() || self.closed == closed, "the first reason counts");
        self.closed = closed;
        let held: usize = self.held.values().sum();
        assert!(held <= usize::try_from(self.config.connection_window).unwrap_or(usize::MAX));
        assert!(self.mux.poll_timeout().is_none_or(|at| at > self.now), "in the past");
        if self.mux.is_over() {
            assert!(closed.is_some() && self.mux.poll_timeout().is_none());
        }
    }

    fn nth(&self, number: u8) -> Option<Id> {
        let count = self.held.len().max(1);
        self.held.keys().nth(usize::from(number) % count).copied()
    }
}
