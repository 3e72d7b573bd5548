//! What the core needs stands between the marks (`glue`); below is the application. All of it is
//! without `std`: `firmware` runs it on a microcontroller.

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;
use core::error::Error;
use core::time::Duration;

use bytes::Bytes;
use glueberry_proto::endpoint::{Driver, Endpoint, Output, Pipe};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{
    Address, Config, ConnectionState, Event, Identity, Instant, PublicKey, Seed, StreamName,
};

pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

// ---- glue: begin ------------------------------------------------------------------------------

type Queue = Rc<RefCell<VecDeque<u8>>>;

pub(crate) struct End {
    pub(crate) from: Queue,
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

pub(crate) struct Page {
    pub(crate) now: Instant,
    pub(crate) nodes: [Driver<End>; 2],
}

impl Page {
    /// Moves what can be moved. Returns what concerns the application of a node, and when it is due.
    pub(crate) fn turn(&mut self, side: usize) -> (Vec<Output<Infallible>>, Option<Instant>) {
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

/// What one side has drawn: the secret of its identity, and the seed, which is never used twice.
#[derive(Clone, Copy)]
pub(crate) struct Random {
    pub(crate) secret: [u8; 32],
    pub(crate) seed: [u8; 32],
}

/// What has come of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Messages that came back.
    pub(crate) echoes: usize,
    /// Messages that the ends of the sessions have left in doubt, on either side.
    pub(crate) in_doubt: u64,
}

pub(crate) fn node(random: Random) -> Fallible<Driver<End>> {
    let mut config = Config::default();
    config.streams = vec![StreamName::new("chat")?];
    let (identity, seed) = (Identity::from_seed(&random.secret), Seed::from_bytes(random.seed));
    let endpoint = Endpoint::new(Instant::ZERO, identity, config, seed)?;
    Ok(Driver::new(endpoint.greeting(GreetingConfig::default())?))
}

/// The first node sends messages, the second sends them back; then both end in order.
pub(crate) fn run(random: [Random; 2]) -> Fallible<Report> {
    let mut page = Page { now: Instant::ZERO, nodes: [node(random[0])?, node(random[1])?] };
    let other = page.nodes[1].endpoint().node().public_key();
    let first = page.nodes[0].endpoint_mut();
    first.add_peer(Instant::ZERO, other, &[Address::new("queue")])?;
    first.connect(Instant::ZERO, other)?;
    let (mut report, mut left) = (Report::default(), [MESSAGES; 2]);
    for _ in 0..MOST_TURNS {
        if page.nodes.iter().all(|node| node.endpoint().is_idle()) {
            return Ok(report);
        }
        for side in [0, 1] {
            let (outputs, _) = page.turn(side);
            let (now, endpoint) = (page.now, page.nodes[side].endpoint_mut());
            for output in outputs {
                react(side, output, now, endpoint, (&mut report, &mut left[side]))?;
            }
        }
        // A page waits for its next message, or with `setTimeout` until the earlier of the two times.
        page.now = page.now + Duration::from_millis(1);
    }
    Err(format!("stalled: {:?}", page.nodes[0].endpoint().owed()).into())
}

fn react(
    side: usize,
    output: Output<Infallible>,
    now: Instant,
    endpoint: &mut Endpoint,
    (report, left): (&mut Report, &mut usize),
) -> Fallible<()> {
    let chat = StreamName::new("chat")?;
    match output {
        Output::State(event) if event.state == ConnectionState::Established && side == 0 => {
            for number in 0..MESSAGES {
                endpoint.send(now, event.peer, &chat, message(number))?;
            }
        }
        Output::Message { peer, message: got, .. } => {
            if side == 1 {
                endpoint.send(now, peer, &chat, got)?;
            } else if got == message(report.echoes) {
                report.echoes += 1;
            }
            *left -= 1;
            if *left == 0 {
                // What was accepted still goes out.
                endpoint.shutdown(now);
            }
        }
        Output::Event { event: Event::Closed(closed), .. } => report.in_doubt += closed.in_doubt,
        _ => {}
    }
    Ok(())
}

/// Messages of different lengths, up to about 1 KiB.
fn message(number: usize) -> Bytes {
    vec![number.to_le_bytes()[0]; 40 * number].into()
}

pub(crate) const MESSAGES: usize = 25;
const MOST_TURNS: usize = 10_000;
