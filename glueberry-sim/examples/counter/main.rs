//! A counter that every node may raise, and of which all nodes learn the same value. Written once
//! against the handler trait, run in the simulator under faults, then over QUIC on this machine.
//!
//! ```text
//! cargo run --release -p glueberry-sim --example counter -- [SEEDS]
//! ```

mod program;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use glueberry_proto::{Address, PublicKey, StreamName};
use glueberry_sim::{Mix, Simulation};
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::runtime::{Runtime, TokioRuntime};
use glueberry_tokio::{Node, run_handler};

use self::program::Counter;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs a counter that all nodes share: in the simulator, then over QUIC on this machine.
#[derive(Parser)]
struct Cli {
    /// How many runs to simulate, each with other faults.
    #[arg(default_value_t = 50)]
    seeds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    simulate(Cli::parse().seeds)?;
    let values = over_quic().await?;
    say(format_args!("over QUIC: {values:?}"));
    let expected = RAISES * u64::try_from(NODES)?;
    match values.iter().all(|value| *value == expected) {
        true => Ok(()),
        false => Err(format!("{expected} was counted").into()),
    }
}

fn simulate(seeds: u64) -> Result<()> {
    let stream = StreamName::new(STREAM)?;
    let simulation = Simulation::new(NODES, &[STREAM], move |peers, place| {
        let peers: Vec<(PublicKey, Address)> =
            peers.iter().map(|peer| (peer.key, peer.address.clone())).collect();
        let next = (place + 1) % peers.len();
        Counter::new(peers, next, stream.clone(), (RAISES, Duration::from_secs(2)))
    })
    .always(|counters| {
        let mut lives = counters.iter().flatten().flat_map(|counter| &counter.counts);
        match lives.find(|(_, count)| **count > RAISES) {
            None => Ok(()),
            Some((life, count)) => Err(format!("{life} has counted {count} times")),
        }
    })
    .finally(|counters| {
        let values: Vec<u64> = counters.iter().flatten().map(|counter| counter.value()).collect();
        match values.iter().all(|value| *value == values[0]) {
            true => Ok(()),
            false => Err(format!("the nodes have counted differently: {values:?}")),
        }
    });
    let report = simulation.run(Mix::Default, 0..seeds)?;
    say(format_args!("simulated: {report:?}"));
    Ok(())
}

/// Runs one program on each of some nodes for a while, and returns what they have counted.
async fn over_quic() -> Result<Vec<u64>> {
    let runtime: Arc<dyn Runtime> =
        Arc::new(TokioRuntime::current().ok_or("there is no tokio runtime")?);
    let (mut nodes, mut events) = (Vec::new(), Vec::new());
    for _ in 0..NODES {
        let listens = "/ip4/127.0.0.1/udp/0/quic-v1".parse()?;
        let builder = Node::builder(Keypair::generate_ed25519()).listen(listens).streams([STREAM]);
        let node = builder.runtime(runtime.clone()).build().await?;
        events.push(node.events());
        nodes.push(node);
    }
    let peers: Vec<(PublicKey, Address)> = nodes
        .iter()
        .map(|node| (node.public_key(), Address::new(node.addrs()[0].to_string())))
        .collect();
    let stream = StreamName::new(STREAM)?;
    let mut running = Vec::new();
    for ((place, node), events) in nodes.iter().enumerate().zip(events) {
        let next = (place + 1) % peers.len();
        let pace = (RAISES, Duration::from_millis(20));
        let counter = Counter::new(peers.clone(), next, stream.clone(), pace);
        let messages = node.messages().ok_or("the messages have a reader")?;
        let (node, runtime, streams) = (node.clone(), runtime.clone(), [stream.clone()]);
        running.push(tokio::spawn(async move {
            run_handler(&node, events, messages, runtime, &streams, counter).await
        }));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for node in &nodes {
        node.shutdown().await;
    }
    let mut values = Vec::new();
    for counter in running {
        values.push(counter.await?.value());
    }
    Ok(values)
}

const STREAM: &str = "counter";
const NODES: usize = 5;
/// How often each node raises the counter.
const RAISES: u64 = 50;

fn say(text: impl std::fmt::Display) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
