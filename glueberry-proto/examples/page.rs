//! Two nodes in a page, or in any program that has neither sockets nor a clock nor randomness: a
//! [`Driver`] each, over two queues. `cargo run -p glueberry-proto --example page`; CI runs it as
//! WebAssembly that imports nothing.
//!
//! A page hands in what it has: 32 bytes of `crypto.getRandomValues` for each node, `performance.now()`
//! for the time, and with two pages a `MessagePort` or a WebSocket in place of the queues. Each node
//! here knows the other's key because both are in one program; between two pages the pipe has to
//! authenticate (rule C0).
//!
//! What the core needs stands between the marks (`glue`); below is the application.

#![expect(clippy::print_stdout, reason = "an example")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::endpoint::{Driver, Endpoint, Output, Pipe};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{
    Address, Config, ConnectionState, Identity, Instant, PublicKey, Seed, StreamName,
};

type Fallible<T> = Result<T, Box<dyn Error>>;

// ---- glue: begin ------------------------------------------------------------------------------

type Queue = Rc<RefCell<VecDeque<u8>>>;

struct End {
    from: Queue,
    to: Queue,
    peer: PublicKey,
}

impl Pipe for End {
    type Error = Infallible;

    fn peer(&self) -> Result<Option<PublicKey>, Infallible> {
        Ok(Some(self.peer))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Infallible> {
        let mut from = self.from.borrow_mut();
        let count = from.len().min(buffer.len());
        buffer.iter_mut().zip(from.drain(..count)).for_each(|(to, byte)| *to = byte);
        Ok((count > 0).then_some(count))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.to.borrow_mut().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<bool, Infallible> {
        Ok(true)
    }
}

struct Page {
    now: Instant,
    nodes: [Driver<End>; 2],
}

impl Page {
    /// Moves what can be moved. Returns what concerns the application of a node, and when it is due.
    fn turn(&mut self, side: usize) -> (Vec<Output<Infallible>>, Option<Instant>) {
        let keys = self.nodes.each_ref().map(|node| node.endpoint().node().public_key());
        let mut outputs = Vec::new();
        self.nodes[side].handle_all_ready();
        loop {
            match self.nodes[side].poll_output(self.now) {
                Output::Dial { connection, .. } => {
                    let (from, to) = (Queue::default(), Queue::default());
                    let far = End { from: to.clone(), to: from.clone(), peer: keys[side] };
                    _ = self.nodes[1 - side].handle_incoming(self.now, far);
                    let near = Ok::<_, Infallible>(End { from, to, peer: keys[1 - side] });
                    self.nodes[side].handle_dialled(self.now, connection, near);
                }
                Output::Timeout(at) => return (outputs, at),
                output => outputs.push(output),
            }
        }
    }
}

// ---- glue: end --------------------------------------------------------------------------------

/// Makes a node from bytes that the page has drawn.
fn node(secret: [u8; 32], random: [u8; 32]) -> Fallible<Driver<End>> {
    let mut config = Config::default();
    config.streams = vec![StreamName::new("chat")?];
    let identity = Identity::from_seed(&secret);
    let endpoint = Endpoint::new(Instant::ZERO, identity, config, Seed::from_bytes(random))?;
    Ok(Driver::new(endpoint.greeting(GreetingConfig::default())?))
}

/// The first node says something, the second says it back; then both end in order. Returns what came
/// back.
pub(crate) fn run(secrets: [[u8; 32]; 2], random: [[u8; 32]; 2]) -> Fallible<Vec<Bytes>> {
    let chat = StreamName::new("chat")?;
    let nodes = [node(secrets[0], random[0])?, node(secrets[1], random[1])?];
    let mut page = Page { now: Instant::ZERO, nodes };
    let other = page.nodes[1].endpoint().node().public_key();
    let first = page.nodes[0].endpoint_mut();
    first.add_peer(Instant::ZERO, other, &[Address::new("queue")])?;
    first.connect(Instant::ZERO, other)?;
    let (mut echoes, mut turns) = (Vec::new(), 0);
    while !page.nodes.iter().all(|node| node.endpoint().is_idle()) {
        turns += 1;
        if turns > 10_000 {
            return Err(format!("stalled: {:?}", page.nodes[0].endpoint().owed()).into());
        }
        for side in [0, 1] {
            let (outputs, _) = page.turn(side);
            let (now, endpoint) = (page.now, page.nodes[side].endpoint_mut());
            for output in outputs {
                match output {
                    Output::State(event) if event.state == ConnectionState::Established => {
                        for number in 0..if side == 0 { 10 } else { 0 } {
                            endpoint.send(now, event.peer, &chat, format!("{number}").into())?;
                        }
                    }
                    Output::Message { peer, message, .. } if side == 1 => {
                        endpoint.send(now, peer, &chat, message)?;
                    }
                    Output::Message { message, .. } => {
                        echoes.push(message);
                        if echoes.len() == 10 {
                            endpoint.shutdown(now);
                        }
                    }
                    Output::Event { .. } if echoes.len() == 10 => endpoint.shutdown(now),
                    _ => {}
                }
            }
        }
        // A page waits for its next message, or with `setTimeout` until the earlier of the two times.
        page.now = page.now + Duration::from_millis(1);
    }
    Ok(echoes)
}

#[cfg_attr(test, expect(dead_code, reason = "a test calls `run`"))]
fn main() -> Fallible<()> {
    // In a page these come from `crypto.getRandomValues`, and no seed is used twice.
    println!("{:?}", run([[1; 32], [2; 32]], [[3; 32], [4; 32]])?);
    Ok(())
}
