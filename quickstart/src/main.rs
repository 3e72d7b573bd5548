//! Two nodes in one process over 127.0.0.1: from dial through the handshake to encrypted messages.
//! Prints each step as it happens and ends by itself.
//!
//! ```text
//! cargo run --release -p quickstart
//! ```

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::runtime::Runtime;
use glueberry_tokio::{Event, Events, Handshake, Message, Messages, Node};

const STREAM: &str = "greetings";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[cfg(feature = "tokio")]
#[tokio::main]
async fn main() -> Result<()> {
    let runtime = glueberry_tokio::runtime::TokioRuntime::current().ok_or("no tokio runtime")?;
    run("tokio", Arc::new(runtime)).await
}

#[cfg(all(feature = "smol", not(feature = "tokio")))]
fn main() -> Result<()> {
    smol::block_on(run("smol", Arc::new(glueberry_tokio::runtime::AnyRuntime::smol())))
}

#[cfg(all(feature = "async-std", not(any(feature = "tokio", feature = "smol"))))]
fn main() -> Result<()> {
    let runtime = glueberry_tokio::runtime::AnyRuntime::async_std();
    async_std::task::block_on(run("async-std", Arc::new(runtime)))
}

#[cfg(all(
    feature = "async-io",
    not(any(feature = "tokio", feature = "smol", feature = "async-std"))
))]
fn main() -> Result<()> {
    let runtime = glueberry_tokio::runtime::AnyRuntime::new("threads", |task| {
        std::thread::spawn(|| async_io::block_on(task));
    });
    async_io::block_on(run("plain threads", Arc::new(runtime)))
}

async fn run(name: &str, runtime: Arc<dyn Runtime>) -> Result<()> {
    let say = Narrator::begin(&format!("two nodes on {name}, over QUIC on 127.0.0.1"));
    let (alice, bob) = (node(runtime.clone()).await?, node(runtime).await?);
    let (events, mut inbox) = ([alice.events(), bob.events()], bob.messages().ok_or("taken")?);
    let peer = alice.dial(bob.dial_addrs().remove(0)).await?;
    alice.wait_established(peer).await?;
    for size in [12, 1_000, 100_000] {
        exchange(&say, &alice, peer, &mut inbox, size).await?;
    }
    alice.shutdown().await;
    bob.shutdown().await;
    history(&say, events).await;
    Ok(())
}

async fn node(runtime: Arc<dyn Runtime>) -> Result<Node> {
    Ok(Node::builder(Keypair::generate_ed25519())
        .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)
        .streams([STREAM])
        .handshake(Handshake::accept_all())
        .runtime(runtime)
        .build()
        .await?)
}

async fn exchange(
    say: &Narrator,
    from: &Node,
    to: PeerId,
    inbox: &mut Messages,
    size: usize,
) -> Result<()> {
    let sent_at = Instant::now();
    from.send(to, STREAM, vec![b'x'; size]).await?;
    let Message { data, .. } = inbox.recv().await.ok_or("the node has stopped")?;
    let took = sent_at.elapsed();
    say.line("bob", &format!("got {} encrypted bytes from alice after {took:.0?}", data.len()));
    Ok(())
}

/// Prints the events of both sides, in order.
async fn history(say: &Narrator, [alice, bob]: [Events; 2]) {
    say.line("", "events of each side, in order");
    for (name, mut events) in [("alice", alice), ("bob", bob)] {
        while let Some(event) = events.recv().await {
            match event {
                Event::State(changed) => match changed.reason {
                    Some(reason) => say.line(name, &format!("{} ({reason})", changed.state)),
                    None => say.line(name, &changed.state.to_string()),
                },
                Event::SessionClosed { closed, .. } => {
                    let (unsent, in_doubt) = (closed.unsent, closed.in_doubt);
                    say.line(name, &format!("session over: {unsent} unsent, {in_doubt} in doubt"));
                }
                other => say.line(name, &other.to_string()),
            }
        }
    }
}

struct Narrator {
    start: Instant,
}

impl Narrator {
    fn begin(what: &str) -> Self {
        let narrator = Self { start: Instant::now() };
        narrator.line("", what);
        narrator
    }

    fn line(&self, who: &str, what: &str) {
        let at = self.start.elapsed().as_secs_f64() * 1000.0;
        // Who reads it may have enough, such as `head`.
        if writeln!(io::stdout(), "{at:8.2} ms  {who:>5}  {what}").is_err() {
            std::process::exit(0);
        }
    }
}
