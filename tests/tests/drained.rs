//! What reaches quinn behind the end of a connection, over raw QUIC and over libp2p's.
//!
//! A stateless reset and a packet that is authentic and forbidden behind it have quinn forget a
//! connection twice, and the second time the connection that has its place by then. Which one that is
//! depends on which task runs first: all orders are tried.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

#[path = "../../glueberry-tokio/src/quic/tests/drained/attacker.rs"]
mod attacker;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Config, Node};
use multiaddr::Protocol;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use self::attacker::Attacker;

/// A node whose tasks run only when a test says so, and everybody else.
struct Stage {
    /// It has one thread, which is that of the test.
    victims: Runtime,
    node: Node,
    others: Runtime,
}

impl Stage {
    fn new(over_libp2p: bool) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        // So that a test can count the tasks that run.
        let victims = builder.enable_all().event_interval(1).build().unwrap();
        let mut config = Config::default();
        config.strangers_per_minute = usize::MAX;
        let builder = Node::builder(Keypair::generate_ed25519())
            .streams(["chat"])
            .config(config)
            .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap());
        let node = victims.block_on(async {
            match over_libp2p {
                true => {
                    let mut over = Libp2p::bare();
                    (over.quic, over.idle_timeout) = (true, Duration::from_secs(60));
                    builder.build_over(over).await
                }
                false => builder.build().await,
            }
        });
        let others = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Self { victims, node: node.unwrap(), others }
    }

    fn address(&self) -> SocketAddr {
        let address = self.node.addrs().remove(0);
        let mut parts = address.iter();
        match (parts.next(), parts.next()) {
            (Some(Protocol::Ip4(ip)), Some(Protocol::Udp(port))) => (ip, port).into(),
            other => panic!("{other:?}"),
        }
    }

    /// Runs this number of the victim's tasks.
    fn steps(&self, count: usize) {
        self.victims.block_on(async {
            for _ in 0..count {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Runs the victim for a while.
    fn settle(&self) {
        self.victims.block_on(async { tokio::time::sleep(SETTLED).await });
    }

    /// Runs the victim until something is done elsewhere.
    fn until<T>(&self, done: JoinHandle<T>) -> T {
        for _ in 0..60_000 {
            if done.is_finished() {
                return self.others.block_on(done).unwrap();
            }
            self.victims.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        }
        panic!("it is not done within a minute");
    }

    /// Has somebody connect.
    fn connected(&self) -> (Attacker, quinn::Connection) {
        let begun = self.begun();
        self.until(begun)
    }

    /// Has somebody begin to connect: its first packet has arrived, and was not looked at.
    fn begun(&self) -> JoinHandle<(Attacker, quinn::Connection)> {
        let to = self.address();
        let begun = self.others.spawn(async move {
            let rustls = libp2p_tls::make_client_config(&Keypair::generate_ed25519(), None);
            let attacker = Attacker::new(rustls.unwrap().try_into().unwrap());
            let connection = attacker.dial(to).await;
            (attacker, connection)
        });
        std::thread::sleep(ARRIVAL);
        begun
    }

    /// Has those who are connected send both packets: they have arrived, and were not looked at.
    fn attack(&self, by: &[(Attacker, quinn::Connection)]) {
        let to = self.address();
        self.others.block_on(async {
            for (attacker, connection) in by {
                attacker.reset(to);
                attacker.be_illegal(true);
                let (mut send, _) = connection.open_bi().await.unwrap();
                send.write_all(b"x").await.unwrap();
            }
            tokio::time::sleep(ARRIVAL).await;
        });
    }

    /// Checks that the victim still answers on a connection.
    fn is_alive(&self, connection: &quinn::Connection) {
        let connection = connection.clone();
        let hello = b"\x13/multistream/1.0.0\n";
        let asked = self.others.spawn(async move {
            let (mut send, mut recv) = connection.open_bi().await?;
            send.write_all(hello).await?;
            let mut answer = [0; 20];
            recv.read_exact(&mut answer).await?;
            assert_eq!(&answer, hello);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
        self.until(asked).unwrap();
    }
}

/// Counts what quinn reports as a fault of its caller: that it is to forget what it has forgotten.
struct Faults;

impl Faults {
    fn seen() -> &'static AtomicUsize {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        // The other test may have set it.
        tracing::subscriber::set_global_default(Self).ok();
        &SEEN
    }
}

impl Subscriber for Faults {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.target().starts_with("quinn_proto")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        Self::seen().fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Long enough for a datagram between two sockets of one machine.
const ARRIVAL: Duration = Duration::from_millis(4);
/// Long enough for what follows a handshake.
const SETTLED: Duration = Duration::from_millis(20);

fn no_order_of_tasks_ends_another_connection(over_libp2p: bool) {
    let stage = Stage::new(over_libp2p);
    let witness = stage.connected();
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (faults, before) = (Faults::seen(), Faults::seen().load(Ordering::SeqCst));
    for steps in 0..40 {
        let attackers: Vec<_> = (0..3).map(|_| stage.connected()).collect();
        // Until the victim knows by what they reset.
        stage.settle();
        stage.attack(&attackers);
        stage.steps(steps);
        let friend = stage.begun();
        let friend = stage.until(friend);
        stage.is_alive(&friend.1);
        stage.is_alive(&witness.1);
        drop(attackers);
        stage.settle();
        assert_eq!(faults.load(Ordering::SeqCst), before, "a connection was forgotten twice");
    }
}

#[test]
fn over_raw_quic_no_order_of_tasks_ends_another_connection() {
    no_order_of_tasks_ends_another_connection(false);
}

#[test]
fn over_libp2ps_quic_no_order_of_tasks_ends_another_connection() {
    no_order_of_tasks_ends_another_connection(true);
}
