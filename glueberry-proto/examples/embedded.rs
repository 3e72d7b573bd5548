//! The core in a program with one thread and no runtime: sockets of the standard library, TLS by
//! rustls, and a [`Driver`]. `cargo run -p glueberry-proto --example embedded`
//!
//! **Rule C0: the transport authenticates.** The core takes the key that `Pipe::peer` returns as
//! proven. Plain TCP proves nothing: a pipe that returns the key that a peer merely *claims*
//! lets anybody be anybody. So there is TLS here, with the certificates of libp2p's TLS
//! specification: each side signs its certificate with its identity, and `libp2p-tls` checks that.
//!
//! What the core needs stands between the marks (`glue`); below is the application.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a driver has sockets")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::endpoint::{Driver, Endpoint, Output, Pipe};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{
    Address, Config, ConnectionState, Event, Identity, Instant, PublicKey, ReconnectPolicy, Seed,
    StreamName,
};
use libp2p_identity::Keypair;
use rustls::{ClientConnection, Connection as TlsConnection, ServerConnection};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

// ---- glue: begin ------------------------------------------------------------------------------

pub(crate) struct Program {
    pub(crate) driver: Driver<Tls>,
    pub(crate) listener: TcpListener,
    pub(crate) keypair: Keypair,
    pub(crate) epoch: std::time::Instant,
}

impl Program {
    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }

    /// Moves what can be moved, and returns what concerns the application.
    pub(crate) fn turn(&mut self) -> Result<Vec<Output<Infallible>>> {
        while let Ok((tcp, _)) = self.listener.accept() {
            let config = libp2p_tls::make_server_config(&self.keypair)?;
            let tls = ServerConnection::new(config.into())?;
            _ = self.driver.handle_incoming(self.now(), Tls::over(tcp, tls)?);
        }
        // With mio, or a page's events: `handle_ready` for those that are.
        self.driver.handle_all_ready();
        let mut outputs = Vec::new();
        loop {
            match self.driver.poll_output(self.now()) {
                Output::Dial { connection, peer, addresses } => {
                    let pipe = self.dial(peer, &addresses);
                    self.driver.handle_dialled(self.now(), connection, pipe);
                }
                Output::Timeout(at) => {
                    // With mio, or a page's events: wait for those as long as `at` allows.
                    let wait = at.map_or(TICK, |at| at.duration_since(self.now()).min(TICK));
                    std::thread::sleep(wait);
                    return Ok(outputs);
                }
                output => outputs.push(output),
            }
        }
    }

    fn dial(&self, peer: PublicKey, to: &[Address]) -> Result<Tls> {
        let address: SocketAddr = to.first().ok_or("no address")?.as_str().parse()?;
        let config = libp2p_tls::make_client_config(&self.keypair, Some(peer.into()))?;
        let tls = ClientConnection::new(config.into(), address.ip().into())?;
        Tls::over(TcpStream::connect_timeout(&address, Duration::from_secs(5))?, tls)
    }
}

pub(crate) struct Tls {
    tcp: TcpStream,
    tls: TlsConnection,
}

impl Tls {
    fn over(tcp: TcpStream, tls: impl Into<TlsConnection>) -> Result<Self> {
        tcp.set_nonblocking(true)?;
        Ok(Self { tcp, tls: tls.into() })
    }
}

impl Pipe for Tls {
    type Error = Box<dyn Error>;

    fn peer(&self) -> Result<Option<PublicKey>> {
        let chain = self.tls.peer_certificates().filter(|_| !self.tls.is_handshaking());
        let Some([certificate, ..]) = chain else {
            return Ok(None);
        };
        // Rule C0: TLS has verified that the peer holds the key of this certificate.
        Ok(Some(PublicKey::try_from(&libp2p_tls::certificate::parse(certificate)?.peer_id())?))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        while self.tls.wants_read() && ready(self.tls.read_tls(&mut self.tcp))? > Some(0) {
            self.tls.process_new_packets()?;
        }
        Ok(ready(self.tls.reader().read(buffer))?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        Ok(self.tls.writer().write(bytes)?)
    }

    fn flush(&mut self) -> Result<bool> {
        while self.tls.wants_write() && ready(self.tls.write_tls(&mut self.tcp))?.is_some() {}
        Ok(!self.tls.wants_write())
    }
}

/// Returns `None` if nothing can be moved now.
fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

// ---- glue: end --------------------------------------------------------------------------------

/// How long the loop sleeps, because the standard library can't wait for several sockets.
const TICK: Duration = Duration::from_millis(1);

/// Makes a node that listens on this machine.
fn node(secret: [u8; 32]) -> Result<Program> {
    let identity = Identity::from_seed(&secret);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
    let mut config = Config::default();
    config.streams = vec![StreamName::new("chat")?];
    let mut policy = ReconnectPolicy::default();
    policy.initial_backoff = Duration::from_millis(50);
    config.reconnect = policy;
    let endpoint = Endpoint::new(Instant::ZERO, identity, config, Seed::from_bytes(seed))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    Ok(Program {
        driver: Driver::new(endpoint.greeting(GreetingConfig::default())?),
        listener,
        keypair: Keypair::ed25519_from_bytes(secret)?,
        epoch: std::time::Instant::now(),
    })
}

/// What the example has seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Messages that came back.
    pub(crate) echoes: Vec<Bytes>,
    /// How often the peer was Established.
    pub(crate) established: usize,
    /// Messages that an orderly end has left unsent, in doubt or not received.
    pub(crate) in_doubt: u64,
    /// Messages that the other side got before its end.
    pub(crate) received: usize,
}

/// One side echoes, the other sends; the connection is cut in between; then both end in order.
pub(crate) fn run() -> Result<Report> {
    let chat = StreamName::new("chat")?;
    let (mut alice, mut bob) = (node([1; 32])?, node([2; 32])?);
    let bob_key = bob.driver.endpoint().node().public_key();
    let address = Address::new(bob.listener.local_addr()?.to_string());
    let now = alice.now();
    alice.driver.endpoint_mut().add_peer(now, bob_key, &[address])?;
    alice.driver.endpoint_mut().connect(now, bob_key)?;
    let (mut report, mut closed) = (Report::default(), BTreeMap::new());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while ![&alice, &bob].iter().all(|it| it.driver.endpoint().is_idle()) {
        if std::time::Instant::now() > deadline {
            return Err(
                format!("stalled: {:?} {:?}", alice.driver.endpoint().owed(), report).into()
            );
        }
        for output in alice.turn()? {
            let now = alice.now();
            match output {
                Output::State(event) if event.state == ConnectionState::Established => {
                    report.established += 1;
                    for number in 0..10 {
                        let text = format!("hello {number}");
                        alice.driver.endpoint_mut().send(now, bob_key, &chat, text.into())?;
                    }
                }
                Output::Message { message, .. } => {
                    report.echoes.push(message);
                    if report.echoes.len() == 10 {
                        // The wire breaks. The node dials again by itself.
                        for (_, pipe) in alice.driver.pipes_mut() {
                            pipe.tcp.shutdown(Shutdown::Both)?;
                        }
                    }
                    if report.echoes.len() == 20 {
                        alice.driver.endpoint_mut().send(now, bob_key, &chat, "good bye".into())?;
                        alice.driver.endpoint_mut().shutdown(now);
                    }
                }
                Output::Event { event: Event::Closed(end), .. } => _ = closed.insert(now, end),
                _ => {}
            }
        }
        for output in bob.turn()? {
            let now = bob.now();
            match output {
                Output::Message { peer, message, .. } => {
                    report.received += 1;
                    if message == "good bye" {
                        bob.driver.endpoint_mut().shutdown(now);
                    } else {
                        bob.driver.endpoint_mut().send(now, peer, &chat, message)?;
                    }
                }
                Output::State(change) => say(format_args!("bob: the peer is {}", change.state)),
                Output::Event { event: Event::Closed(end), .. } => {
                    say(format_args!("bob: the session is over: {end}"));
                }
                _ => {}
            }
        }
    }
    let (_, last) = closed.pop_last().ok_or("no session has ended")?;
    report.in_doubt = last.in_doubt + last.not_received + u64::try_from(last.unsent)?;
    Ok(report)
}

#[cfg_attr(test, expect(dead_code, reason = "a test calls `run`"))]
fn main() -> Result<()> {
    let Report { echoes, established, in_doubt, received } = run()?;
    say(format_args!(
        "{} echoes in {established} sessions, {received} messages at bob, {in_doubt} in doubt",
        echoes.len()
    ));
    Ok(())
}

fn say(text: impl std::fmt::Display) {
    // Who reads it may have enough, such as `head`.
    writeln!(io::stdout(), "{text}").unwrap_or_default();
}
