//! The core in a program with one thread and no runtime: sockets of the standard library, TLS by
//! rustls, and an [`Endpoint`]. `cargo run -p glueberry-proto --example embedded`
//!
//! **Rule C0: the transport authenticates.** `handle_connected` and `handle_accepted` take the peer's
//! key as proven. Plain TCP proves nothing: a driver that hands in the key that a peer merely *claims*
//! lets anybody be anybody. So there is TLS here, with the certificates of libp2p's TLS
//! specification: each side signs its certificate with its identity, and `libp2p-tls` checks that.
//!
//! What the core needs stands between the marks (`glue`); below is the application.

#![expect(clippy::print_stdout, reason = "an example")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a driver has sockets")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::endpoint::{Endpoint, Output, Write};
use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{
    Address, Config, ConnectionId, ConnectionLost, ConnectionState, Event, Identity, Instant,
    PublicKey, ReconnectPolicy, Seed, StreamName,
};
use libp2p_identity::Keypair;
use rustls::{ClientConnection, Connection as TlsConnection, ServerConnection};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

// ---- glue: begin ------------------------------------------------------------------------------

struct Driver {
    endpoint: Endpoint,
    listener: TcpListener,
    keypair: Keypair,
    pipes: Vec<Pipe>,
    epoch: std::time::Instant,
}

struct Pipe {
    tcp: TcpStream,
    tls: TlsConnection,
    id: ConnectionId,
    is_authenticated: bool,
}

impl Driver {
    fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }

    /// Moves what can be moved, and returns what concerns the application.
    fn turn(&mut self) -> Result<Vec<Output<Write>>> {
        while let Ok((tcp, _)) = self.listener.accept() {
            let config = libp2p_tls::make_server_config(&self.keypair)?;
            let id = self.endpoint.handle_incoming(self.now());
            self.add(tcp, ServerConnection::new(config.into())?.into(), id)?;
        }
        for mut pipe in std::mem::take(&mut self.pipes) {
            match self.pump(&mut pipe) {
                Ok(()) => self.pipes.push(pipe),
                Err(error) => self.lost(pipe.id, &*error),
            }
        }
        let mut outputs = Vec::new();
        loop {
            match self.endpoint.poll_output(self.now()) {
                Output::Dial { connection, peer, addresses } => {
                    if let Err(error) = self.dial(connection, peer, &addresses) {
                        self.lost(connection, &*error);
                    }
                }
                Output::Transport(Write { connection, bytes }) => {
                    for pipe in self.pipes.iter_mut().filter(|it| it.id == connection) {
                        pipe.tls.writer().write_all(&bytes)?;
                    }
                }
                Output::Close { connection, .. } => {
                    self.pipes.retain(|pipe| pipe.id != connection);
                }
                Output::Timeout(at) => {
                    // With mio, or a page's events, wait for those as long as `at` allows.
                    let wait = at.map_or(TICK, |at| at.duration_since(self.now()).min(TICK));
                    std::thread::sleep(wait);
                    return Ok(outputs);
                }
                output => outputs.push(output),
            }
        }
    }

    fn dial(&mut self, id: ConnectionId, peer: PublicKey, to: &[Address]) -> Result<()> {
        let address: SocketAddr = to.first().ok_or("no address")?.as_str().parse()?;
        let config = libp2p_tls::make_client_config(&self.keypair, Some(peer.into()))?;
        let tls = ClientConnection::new(config.into(), address.ip().into())?;
        let tcp = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        self.add(tcp, tls.into(), id)
    }

    fn add(&mut self, tcp: TcpStream, mut tls: TlsConnection, id: ConnectionId) -> Result<()> {
        tcp.set_nonblocking(true)?;
        tls.set_buffer_limit(None);
        self.pipes.push(Pipe { tcp, tls, id, is_authenticated: false });
        Ok(())
    }

    fn lost(&mut self, id: ConnectionId, error: &dyn Error) {
        let why = ConnectionLost::Transport(error.to_string());
        self.endpoint.handle_lost(self.now(), id, why);
    }

    fn pump(&mut self, pipe: &mut Pipe) -> Result<()> {
        while pipe.tls.wants_write() && ready(pipe.tls.write_tls(&mut pipe.tcp))?.is_some() {}
        while let Some(count) = ready(pipe.tls.read_tls(&mut pipe.tcp))? {
            pipe.tls.process_new_packets()?;
            if count == 0 {
                return Err("the peer has ended the connection".into());
            }
            let mut bytes = Vec::new();
            ready(pipe.tls.reader().read_to_end(&mut bytes))?;
            if !pipe.is_authenticated && !pipe.tls.is_handshaking() {
                // Rule C0: TLS has verified that the peer holds the key of this certificate.
                let chain = pipe.tls.peer_certificates().ok_or("no certificate")?;
                let peer = libp2p_tls::certificate::parse(&chain[0])?.peer_id();
                pipe.is_authenticated = true;
                self.endpoint.handle_connected(self.now(), pipe.id, PublicKey::try_from(&peer)?);
            }
            self.endpoint.handle_bytes(self.now(), pipe.id, &bytes);
        }
        if !pipe.tls.wants_write() {
            self.endpoint.handle_written(self.now(), pipe.id);
        }
        Ok(())
    }
}

/// Returns `None` if nothing can be moved now.
fn ready(result: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

// ---- glue: end --------------------------------------------------------------------------------

/// How long the loop sleeps, because the standard library can't wait for several sockets.
const TICK: Duration = Duration::from_millis(1);

/// Makes a node that listens on this machine.
fn node(secret: [u8; 32]) -> Result<Driver> {
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
    Ok(Driver {
        endpoint: endpoint.greeting(GreetingConfig::default())?,
        listener,
        keypair: Keypair::ed25519_from_bytes(secret)?,
        pipes: Vec::new(),
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
    /// Messages that an orderly end has left unsent or in doubt.
    pub(crate) in_doubt: u64,
    /// Messages that the other side got before its end.
    pub(crate) received: usize,
}

/// One side echoes, the other sends; the connection is cut in between; then both end in order.
pub(crate) fn run() -> Result<Report> {
    let chat = StreamName::new("chat")?;
    let (mut alice, mut bob) = (node([1; 32])?, node([2; 32])?);
    let bob_key = bob.endpoint.node().public_key();
    let address = Address::new(bob.listener.local_addr()?.to_string());
    let now = alice.now();
    alice.endpoint.add_peer(now, bob_key, &[address])?;
    alice.endpoint.connect(now, bob_key)?;
    let (mut report, mut closed) = (Report::default(), BTreeMap::new());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let mut is_ending = false;
    while !(is_ending && alice.endpoint.is_idle() && bob.endpoint.is_idle()) {
        if std::time::Instant::now() > deadline {
            return Err(format!("stalled: {:?} {:?}", alice.endpoint.owed(), report).into());
        }
        for output in alice.turn()? {
            let now = alice.now();
            match output {
                Output::State(event) if event.state == ConnectionState::Established => {
                    report.established += 1;
                    for number in 0..10 {
                        let text = format!("hello {number}");
                        alice.endpoint.send(now, bob_key, &chat, text.into())?;
                    }
                }
                Output::Message { message, .. } => {
                    report.echoes.push(message);
                    if report.echoes.len() == 10 {
                        // The wire breaks. The node dials again by itself.
                        for pipe in std::mem::take(&mut alice.pipes) {
                            alice.lost(pipe.id, &std::io::Error::from(ErrorKind::BrokenPipe));
                        }
                    }
                    if report.echoes.len() == 20 {
                        alice.endpoint.send(now, bob_key, &chat, "good bye".into())?;
                        alice.endpoint.shutdown(now);
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
                        bob.endpoint.shutdown(now);
                        is_ending = true;
                    } else {
                        bob.endpoint.send(now, peer, &chat, message)?;
                    }
                }
                output => println!("bob: {output:?}"),
            }
        }
    }
    let (_, last) = closed.pop_last().ok_or("no session has ended")?;
    report.in_doubt = last.in_doubt + u64::try_from(last.unsent)?;
    Ok(report)
}

#[cfg_attr(test, expect(dead_code, reason = "a test calls `run`"))]
fn main() -> Result<()> {
    let report = run()?;
    println!("{report:?}");
    Ok(())
}
