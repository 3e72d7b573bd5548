//! Listening, dialling and round trips.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glueberry_tokio::http::{self, axum};
use glueberry_tokio::identity::{self, Keypair, PeerId};
use glueberry_tokio::prometheus::{PrometheusMetrics, Registry};
use glueberry_tokio::{
    Builder, Event, Handshake, IncomingRequests, Message, Node, RequestError, RequestLimits,
    Requester,
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::bench::Counted;
use crate::cli::{Dial, Listen, Ping, Target};
use crate::interrupt::Interrupt;
use crate::output::{Failure, Output};

/// Requests and responses of this command.
const CONTROL: &str = "glueberry-cli";
/// Messages of a measurement.
pub(crate) const BULK: &str = "glueberry-bench";
/// Messages for people.
const MESSAGES: &str = "messages";

pub(crate) fn builder(key: Option<&Path>) -> Result<Builder, Failure> {
    let identity = match key {
        Some(path) => identity::load_or_create(path)?,
        None => Keypair::generate_ed25519(),
    };
    let streams = [CONTROL, BULK, MESSAGES];
    Ok(Node::builder(identity).streams(streams).handshake(Handshake::accept_all()))
}

// ---- listening ----------------------------------------------------------------------------------

pub(crate) async fn listen(
    listen: Listen,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<(), Failure> {
    let mut registry = Registry::default();
    let metrics = Arc::new(PrometheusMetrics::register(&mut registry));
    let mut builder = builder(listen.own.key.as_deref())?.metrics(metrics);
    for address in listen.addresses {
        builder = builder.listen(address);
    }
    if let Some(path) = listen.book {
        builder = builder.address_book(path);
    }
    let node = builder.build().await?;
    for address in node.dial_addrs() {
        let value = json!({ "event": "listening", "address": address.to_string() });
        output.say(format!("listening at {address}"), &value);
    }
    let mut serving = None;
    if let Some(address) = listen.http {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Failure::new(format!("HTTP cannot be served at {address}: {error}"))
        })?;
        let address = listener.local_addr()?;
        output.say(format!("http at {address}"), &json!({ "event": "http", "address": address }));
        let router = http::router(node.clone(), Arc::new(registry));
        serving = Some(tokio::spawn(async move { axum::serve(listener, router).await }));
    }
    tokio::select! {
        result = serve(&node, output) => result?,
        () = interrupt.came() => {}
    }
    node.shutdown().await;
    if let Some(serving) = serving {
        serving.abort();
    }
    Ok(())
}

async fn serve(node: &Node, output: Output) -> Result<(), Failure> {
    let (_requester, mut incoming) = node.requests(CONTROL, RequestLimits::default())?;
    let mut messages = node.messages().ok_or_else(|| Failure::new("messages were taken"))?;
    let mut events = node.events();
    let mut counted = Counted::default();
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) => tell(&event, output),
                None => return Ok(()),
            },
            message = messages.recv() => match message {
                Some(message) if message.stream() == BULK => counted.add(&message),
                Some(message) => hear(&message, output),
                None => return Ok(()),
            },
            request = incoming.recv() => match request {
                Some(request) => {
                    let response = match &request.data[..] {
                        b"bench" => counted.report(request.peer),
                        // A ping: what was sent comes back.
                        _ => request.data.clone(),
                    };
                    // Others do not wait for a peer that reads no answers; one that is gone needs none.
                    tokio::spawn(request.respond(response));
                }
                None => return Ok(()),
            },
        }
    }
}

fn tell(event: &Event, output: Output) {
    let peer = event.peer().map(|it| it.to_string());
    let value = match event {
        Event::State(changed) => {
            let reason = changed.reason.as_ref().map(ToString::to_string);
            let state = changed.state.to_string();
            json!({ "event": "state", "peer": peer, "state": state, "reason": reason })
        }
        other => json!({ "event": "other", "peer": peer, "text": other.to_string() }),
    };
    output.say(event.to_string(), &value);
}

fn hear(message: &Message, output: Output) {
    let text = String::from_utf8_lossy(&message.data);
    let peer = message.peer.to_string();
    let line = format!("{peer} {}> {}", message.stream(), text.escape_debug());
    let value = json!({
        "event": "message", "peer": peer, "stream": message.stream(), "text": text,
    });
    output.say(line, &value);
}

// ---- a session with one peer --------------------------------------------------------------------

/// A session with a peer, and what it took.
pub(crate) struct Session {
    pub(crate) node: Node,
    pub(crate) peer: PeerId,
    pub(crate) requester: Requester,
    _incoming: IncomingRequests,
    connected_after: Duration,
    established_after: Duration,
}

impl Session {
    pub(crate) async fn open(target: &Target, interrupt: &mut Interrupt) -> Result<Self, Failure> {
        let node = builder(target.own.key.as_deref())?.build().await?;
        let (requester, _incoming) = node.requests(CONTROL, RequestLimits::default())?;
        let begun = Instant::now();
        let dialling = async {
            let peer = node.dial(target.address.clone()).await?;
            let connected_after = begun.elapsed();
            node.wait_established(peer).await?;
            Ok::<_, Failure>((peer, connected_after))
        };
        let opening = async {
            tokio::select! {
                opened = dialling => opened,
                () = tokio::time::sleep(target.timeout) => {
                    let failure = Failure::new(format!("no session within {:?}", target.timeout));
                    Err(failure.with_hint(UNREACHED))
                }
            }
        };
        let opened = interrupt.or(opening).await;
        match opened {
            Ok((peer, connected_after)) => {
                let established_after = begun.elapsed();
                Ok(Self { node, peer, requester, _incoming, connected_after, established_after })
            }
            Err(failure) => {
                node.shutdown().await;
                Err(failure)
            }
        }
    }

    /// Describes the session, for people and for programs.
    pub(crate) fn describe(&self) -> (String, serde_json::Value) {
        let connected = self.node.connected();
        let found = connected.iter().find(|it| it.peer == self.peer);
        let profile = found.and_then(|it| it.profile);
        let (connected, established) = (self.connected_after, self.established_after);
        let text = format!(
            "{}\n  profile      {}\n  connected    after {connected:.1?}\n  established  after {established:.1?}",
            self.peer,
            profile.map_or_else(|| "unknown".to_owned(), |it| format!("{it:?}").to_lowercase()),
        );
        let value = json!({
            "peer": self.peer.to_string(),
            "profile": profile,
            "connected_after_ms": millis(connected),
            "established_after_ms": millis(established),
        });
        (text, value)
    }
}

pub(crate) async fn dial(
    dial: Dial,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<(), Failure> {
    let session = Session::open(&dial.to, interrupt).await?;
    let (text, value) = session.describe();
    output.say(text, &value);
    session.node.shutdown().await;
    Ok(())
}

pub(crate) async fn ping(
    ping: Ping,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<(), Failure> {
    let session = Session::open(&ping.to, interrupt).await?;
    let mut times: Vec<Duration> = Vec::new();
    let mut sent = 0;
    for number in 0..ping.count {
        let sent_at = Instant::now();
        sent += 1;
        let asking = session.requester.request(session.peer, PING, ping.patience);
        let result = tokio::select! {
            result = asking => result,
            () = interrupt.came() => break,
        };
        match result {
            Ok(_) => {
                let time = sent_at.elapsed();
                times.push(time);
                let value = json!({ "number": number, "ms": millis(time) });
                output.say(format!("{number}: {time:.2?}"), &value);
            }
            Err(RequestError::TimedOut) => {
                output.say(format!("{number}: lost"), &json!({ "number": number, "lost": true }));
            }
            Err(error) => {
                session.node.shutdown().await;
                return Err(error.into());
            }
        }
        if number + 1 == ping.count || !output.is_read() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(ping.interval) => {}
            () = interrupt.came() => break,
        }
    }
    summarize(&mut times, sent, output);
    session.node.shutdown().await;
    match times.is_empty() && sent > 0 {
        true => Err(Failure::new("no answer")),
        false => Ok(()),
    }
}

fn summarize(times: &mut [Duration], sent: u32, output: Output) {
    times.sort();
    let answered = u32::try_from(times.len()).unwrap_or(u32::MAX);
    let lost = sent - answered;
    let (Some(least), Some(most)) = (times.first(), times.last()) else {
        return output
            .say(format!("{sent} sent, all lost"), &json!({ "sent": sent, "lost": lost }));
    };
    let median = times[times.len() / 2];
    let text =
        format!("{sent} sent, {lost} lost; min {least:.2?}, median {median:.2?}, max {most:.2?}");
    let value = json!({
        "sent": sent, "lost": lost,
        "min_ms": millis(*least), "median_ms": millis(median), "max_ms": millis(*most),
    });
    output.say(text, &value);
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

const PING: &str = "ping";
const UNREACHED: &str = "is the peer running, is its address right, is a firewall between?";
