//! Requests and responses of serde's types, in JSON: a peer that calculates.
//!
//! ```text
//! cargo run --release -p glueberry-examples --bin rpc
//! ```

use std::io::{self, Write};
use std::time::Duration;

use clap::Parser;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{Handshake, IncomingRequests, Node, RequestLimits, Requester};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Asks a peer in the same process to calculate.
#[derive(Parser)]
struct Cli {
    /// How long to wait for each answer, in seconds.
    #[arg(long, default_value_t = 10)]
    timeout: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    Add(i64, i64),
    Divide(i64, i64),
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    result: i64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let timeout = Duration::from_secs(Cli::parse().timeout);
    let (alice, bob) = (node().await?, node().await?);
    let (requester, _) = alice.requests("rpc", RequestLimits::default())?;
    let (_, incoming) = bob.requests("rpc", RequestLimits::default())?;
    tokio::spawn(serve(incoming));
    let peer = alice.dial(bob.dial_addrs().remove(0)).await?;
    alice.wait_established(peer).await?;

    let ask =
        async |question| -> Result<Answer> { ask(&requester, peer, &question, timeout).await };
    say(&format!("2 + 3 = {}", ask(Question::Add(2, 3)).await?.result));
    say(&format!("7 / 2 = {}", ask(Question::Divide(7, 2)).await?.result));
    if let Err(error) = ask(Question::Divide(1, 0)).await {
        say(&format!("1 / 0: {error}"));
    }
    alice.shutdown().await;
    bob.shutdown().await;
    Ok(())
}

async fn node() -> Result<Node> {
    Ok(Node::builder(Keypair::generate_ed25519())
        .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)
        .streams(["rpc"])
        .handshake(Handshake::accept_all())
        .build()
        .await?)
}

async fn ask<T: DeserializeOwned>(
    requester: &Requester,
    peer: PeerId,
    question: &impl Serialize,
    timeout: Duration,
) -> Result<T> {
    let response = requester.request(peer, serde_json::to_vec(question)?, timeout).await?;
    Ok(serde_json::from_slice(&response)?)
}

async fn serve(mut incoming: IncomingRequests) {
    while let Some(request) = incoming.recv().await {
        // Each in a task of its own, so that a slow one holds up no other.
        tokio::spawn(async move {
            let answered = match calculate(&request.data) {
                Ok(answer) => request.respond(answer).await,
                Err(error) => request.fail(error).await,
            };
            if let Err(error) = answered {
                say(&format!("not answered: {error:#}"));
            }
        });
    }
}

fn calculate(question: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let question = serde_json::from_slice(question).map_err(|error| error.to_string())?;
    let result = match question {
        Question::Add(one, other) => one.checked_add(other).ok_or("too large")?,
        Question::Divide(_, 0) => return Err("division by zero".to_owned()),
        Question::Divide(one, other) => one.checked_div(other).ok_or("too large")?,
    };
    serde_json::to_vec(&Answer { result }).map_err(|error| error.to_string())
}

fn say(text: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
