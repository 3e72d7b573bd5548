//! Throughput between two machines.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{Config, Message};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::Bench;
use crate::interrupt::Interrupt;
use crate::network::{BULK, Session};
use crate::output::{Failure, Output};

/// What a peer has sent to be counted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Count {
    messages: u64,
    bytes: u64,
}

/// What all peers have sent to be counted.
#[derive(Debug, Default)]
pub(crate) struct Counted(HashMap<PeerId, Count>);

impl Counted {
    pub(crate) fn add(&mut self, message: &Message) {
        // Few peers measure at one time; strangers may not fill this.
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&message.peer) {
            self.0.clear();
        }
        let count = self.0.entry(message.peer).or_default();
        count.messages += 1;
        count.bytes += u64::try_from(message.data.len()).unwrap_or_default();
    }

    pub(crate) fn report(&self, peer: PeerId) -> Bytes {
        let count = self.0.get(&peer).copied().unwrap_or_default();
        serde_json::to_vec(&count).unwrap_or_default().into()
    }
}

pub(crate) async fn run(
    bench: Bench,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<(), Failure> {
    let limit = Config::default().core.max_message_size;
    if bench.size > limit {
        return Err(Failure::new(format!("a message has at most {limit} bytes")));
    }
    let session = Session::open(&bench.to, interrupt).await?;
    let result = interrupt.or(measure(&session, &bench, output)).await;
    session.node.shutdown().await;
    result
}

async fn measure(session: &Session, bench: &Bench, output: Output) -> Result<(), Failure> {
    // An identity in a file may have measured before.
    let before = counted(session).await?;
    let message = Bytes::from(vec![0x5a; bench.size]);
    let (begun, mut sent) = (Instant::now(), 0_u64);
    while begun.elapsed() < bench.duration {
        session.node.send(session.peer, BULK, message.clone()).await?;
        sent += 1;
    }
    // What counts is what has arrived.
    let received = loop {
        let now = counted(session).await?;
        let received = now.messages.saturating_sub(before.messages);
        if received >= sent {
            break Count { messages: received, bytes: now.bytes.saturating_sub(before.bytes) };
        }
        if begun.elapsed() > bench.duration + PATIENCE {
            return Err(Failure::new(format!("only {received} of {sent} messages have arrived")));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let seconds = begun.elapsed().as_secs_f64();
    let rate = per_second(received.messages, seconds);
    let throughput = per_second(received.bytes, seconds) / (1024.0 * 1024.0);
    let text = format!(
        "{} messages of {} bytes in {seconds:.2} s: {rate:.0} messages/s, {throughput:.1} MiB/s",
        received.messages, bench.size
    );
    let value = json!({
        "messages": received.messages, "bytes": received.bytes, "seconds": seconds,
        "messages_per_second": rate, "mib_per_second": throughput,
    });
    output.say(text, &value);
    Ok(())
}

async fn counted(session: &Session) -> Result<Count, Failure> {
    let response = session.requester.request(session.peer, "bench", PATIENCE).await?;
    // A peer that only echoes runs another program.
    serde_json::from_slice(&response)
        .map_err(|_| Failure::new("the peer does not run `glueberry listen`"))
}

#[expect(clippy::as_conversions, reason = "a rate for people needs no more than 52 bits")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

const PATIENCE: Duration = Duration::from_secs(60);
const MAX_PEERS: usize = 1000;
