//! Two nodes in a page: the glue of the core's example `page`, with a clock and randomness that the page
//! hands in, and buttons in place of a program.
//!
//! The module imports nothing. What it exports takes numbers; texts and random bytes go through a buffer:
//! the page writes into [`buffer`], and reads what has happened from [`happened`].

#![expect(unsafe_code, reason = "the attribute by which a function gets its name in the module")]

extern crate alloc;

#[expect(dead_code, reason = "its program is not run here")]
#[path = "../../glueberry-proto/examples/page/nodes.rs"]
mod nodes;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::{Display, Write};
use std::time::Duration;

use glueberry_proto::endpoint::Output;
use glueberry_proto::{Address, ConnectionEvent, Event, Instant, StreamName};
use nodes::{Fallible, Page, Random};

#[derive(Default)]
struct State {
    page: Option<Page>,
    buffer: Vec<u8>,
    /// A line for everything: the side, a tab, what kind, a tab, and a text.
    happened: String,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

// ---- what the page calls ------------------------------------------------------------------------

/// Returns where the page writes that many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn buffer(length: usize) -> *mut u8 {
    STATE.with_borrow_mut(|state| {
        state.buffer = vec![0; length];
        state.buffer.as_mut_ptr()
    })
}

/// Makes the two nodes of 128 random bytes in the buffer.
#[unsafe(no_mangle)]
pub extern "C" fn start() {
    STATE.with_borrow_mut(|state| {
        let made = state.start();
        state.failed(0, made);
    });
}

/// Has the first node dial the second.
#[unsafe(no_mangle)]
pub extern "C" fn connect(ms: f64) {
    STATE.with_borrow_mut(|state| {
        let dialled = state.connect(ms);
        state.failed(0, dialled);
    });
}

/// Has a node send the text in the buffer, so many times.
#[unsafe(no_mangle)]
pub extern "C" fn send(side: usize, ms: f64, times: u32) {
    STATE.with_borrow_mut(|state| {
        let sent = state.send(side, ms, times);
        state.failed(side, sent);
    });
}

/// Moves all that can be moved. Returns after how many milliseconds this must be called again at the
/// latest.
#[unsafe(no_mangle)]
pub extern "C" fn turn(ms: f64) -> f64 {
    STATE.with_borrow_mut(|state| state.turn(ms))
}

/// Returns where the text is of what has happened, and forgets it at the next call of
/// [`happened_length`].
#[unsafe(no_mangle)]
pub extern "C" fn happened() -> *const u8 {
    STATE.with_borrow(|state| state.buffer.as_ptr())
}

/// Returns how long the text is of what has happened since the last call.
#[unsafe(no_mangle)]
pub extern "C" fn happened_length() -> usize {
    STATE.with_borrow_mut(|state| {
        state.buffer = std::mem::take(&mut state.happened).into_bytes();
        state.buffer.len()
    })
}

// ---- the nodes ----------------------------------------------------------------------------------

impl State {
    fn start(&mut self) -> Fallible<()> {
        let mut parts = self.buffer.chunks_exact(32).map(<[u8; 32]>::try_from);
        let mut next = || Fallible::Ok(parts.next().ok_or("128 random bytes are needed")??);
        let mut random = || Fallible::Ok(Random { secret: next()?, seed: next()? });
        let nodes = [nodes::node(random()?)?, nodes::node(random()?)?];
        self.buffer.fill(0);
        for (side, node) in nodes.iter().enumerate() {
            self.note(side, "key", node.endpoint().node().public_key());
        }
        self.page = Some(Page { now: Instant::ZERO, nodes });
        Ok(())
    }

    fn connect(&mut self, ms: f64) -> Fallible<()> {
        let page = self.page.as_mut().ok_or("not started")?;
        let (now, other) = (at(ms), page.nodes[1].endpoint().node().public_key());
        let first = page.nodes[0].endpoint_mut();
        first.add_peer(now, other, &[Address::new("queue")])?;
        Ok(first.connect(now, other)?)
    }

    fn send(&mut self, side: usize, ms: f64, times: u32) -> Fallible<()> {
        let page = self.page.as_mut().ok_or("not started")?;
        let keys = page.nodes.each_ref().map(|node| node.endpoint().node().public_key());
        let text = bytes::Bytes::from(std::mem::take(&mut self.buffer));
        let (to, chat) = (keys[1 - side % 2], StreamName::new("chat")?);
        for _ in 0..times {
            page.nodes[side % 2].endpoint_mut().send(at(ms), to, &chat, text.clone())?;
        }
        Ok(())
    }

    fn turn(&mut self, ms: f64) -> f64 {
        let Some(mut page) = self.page.take() else { return IDLE_MS };
        page.now = at(ms);
        let mut due = [None, None];
        for _ in 0..MOST_ROUNDS {
            for side in [0, 1] {
                let (outputs, next) = page.turn(side);
                due[side] = next;
                for output in outputs {
                    self.output(side, output);
                }
            }
            // Until what each has written, the other has read.
            let mut pipes = page.nodes.iter_mut().flat_map(|node| node.pipes_mut());
            if pipes.all(|(_, pipe)| pipe.from.borrow().is_empty()) {
                break;
            }
        }
        let due = due.into_iter().flatten().min();
        let wait = due.map_or(IDLE_MS, |due| due.duration_since(page.now).as_secs_f64() * 1000.0);
        self.page = Some(page);
        wait
    }

    fn output(&mut self, side: usize, output: Output<Infallible>) {
        match output {
            Output::State(ConnectionEvent { state, reason, .. }) => {
                let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                self.note(side, "state", format_args!("{state}{reason}"));
            }
            Output::Message { message, .. } => {
                self.note(side, "message", String::from_utf8_lossy(&message));
            }
            Output::Event { event: Event::Established(_), .. } => {}
            Output::Event { event, .. } => self.note(side, "event", format_args!("{event:?}")),
            _ => {}
        }
    }

    fn note(&mut self, side: usize, kind: &str, text: impl Display) {
        let text = text.to_string().replace(char::is_control, " ");
        // Writing to a text never fails.
        writeln!(self.happened, "{side}\t{kind}\t{text}").unwrap_or_default();
    }

    fn failed(&mut self, side: usize, result: Fallible<()>) {
        if let Err(error) = result {
            self.note(side, "error", error);
        }
    }
}

fn at(ms: f64) -> Instant {
    Instant::ZERO + Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
}

/// Rounds of both nodes before the page has its turn.
const MOST_ROUNDS: usize = 10_000;
/// How long to wait where nothing is due.
const IDLE_MS: f64 = 1000.0;
