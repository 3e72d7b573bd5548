//! Connections that lead to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{CloseReason, ConnectionState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::NOTHING;
use crate::hostile::attacker::{Attacker, MULTISTREAM, frame};
use crate::hostile::host::STREAM;
use crate::hostile::stage::Stage;
use crate::hostile::wire::{proposal, socket};
use crate::hostile::{tls, within};

/// More strangers than there are places for prove who they are, and open nothing.
pub(in crate::hostile) async fn silent(stage: &Stage) -> String {
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(stage.attacker().await);
    }
    for attacker in &mut silent {
        attacker.is_closed().await;
        let state = stage.node().connection_state(attacker.id);
        assert_eq!(state, ConnectionState::Disconnected);
    }
    NOTHING.to_owned()
}

/// Begins handshakes of the transport and goes no further.
pub(in crate::hostile) async fn half_open(stage: &Stage) -> String {
    if stage.fabric.is_datagrams() {
        for flight in &first_flights(stage, 100).await {
            send(stage, flight).await;
        }
        // Longer than a handshake may last.
        tokio::time::sleep(Duration::from_secs(6)).await;
        return NOTHING.to_owned();
    }
    let mut open = Vec::new();
    for number in 0..120 {
        let mut stream = tcp(stage).await;
        if number % 2 == 0 {
            let begun = [proposal(MULTISTREAM), proposal("/noise"), vec![0, 32, 1, 2]].concat();
            stream.write_all(&begun).await.expect("it is taken");
        }
        open.push(stream);
    }
    for stream in &mut open {
        within("it is closed", drain(stream)).await;
    }
    NOTHING.to_owned()
}

/// Says as a stranger what nobody understands.
pub(in crate::hostile) async fn garbage_before_anything(stage: &Stage) -> String {
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 1200],
        &[0; 1200],
        // A long header of a version that nobody knows, and of the one that everybody does.
        &[[0xc0, 0xfa, 0xce, 0xb0, 0x0c, 20].as_slice(), &[7; 1194]].concat(),
        &[[0xc0, 0, 0, 0, 1, 8].as_slice(), &[7; 1194]].concat(),
        // A short header, or the start of an overlong name.
        &[[0x7f].as_slice(), &[0x41; 60]].concat(),
    ];
    for garbage in garbage.repeat(10) {
        if stage.fabric.is_datagrams() {
            send(stage, garbage).await;
        } else {
            let mut stream = tcp(stage).await;
            stream.write_all(garbage).await.expect("it is taken");
            // What waits for more has no more coming.
            drop(stream.shutdown().await);
            within("it is closed", drain(&mut stream)).await;
        }
    }
    NOTHING.to_owned()
}

/// Connects and leaves, or sends the first packet and no more, as fast as can be.
pub(in crate::hostile) async fn flood_of_first_words(stage: &Stage) -> String {
    if stage.fabric.is_datagrams() {
        for flight in &first_flights(stage, 50).await {
            for _ in 0..4 {
                send(stage, flight).await;
            }
        }
    } else {
        for _ in 0..200 {
            let mut stream = tcp(stage).await;
            stream.write_all(&proposal(MULTISTREAM)).await.expect("it is taken");
        }
    }
    NOTHING.to_owned()
}

/// Agrees on Noise and then sends no message of it.
pub(in crate::hostile) async fn garbage_in_noise(stage: &Stage) -> String {
    let garbage: [&[u8]; 4] = [
        // A message that is no message; an empty one; the longest; one cut off.
        &[[0, 32].as_slice(), &[7; 32]].concat(),
        &[0; 64],
        &[[0xff, 0xff].as_slice(), &[7; 65_535]].concat(),
        &[0, 32, 1, 2, 3],
    ];
    for garbage in garbage.repeat(5) {
        let mut stream = tcp(stage).await;
        let begun = [proposal(MULTISTREAM), proposal("/noise")].concat();
        stream.write_all(&begun).await.expect("it is taken");
        // It may be closed before all is written.
        drop(stream.write_all(garbage).await);
        drop(stream.shutdown().await);
        within("it is closed", drain(&mut stream)).await;
    }
    NOTHING.to_owned()
}

/// Proposes one name after the other for what is to secure the connection.
pub(in crate::hostile) async fn proposals_before_security(stage: &Stage) -> String {
    for proposal in [proposal("/none"), proposal("ls")] {
        let mut stream = tcp(stage).await;
        stream.write_all(&crate::hostile::wire::proposal(MULTISTREAM)).await.expect("it is taken");
        let proposing = async {
            while stream.write_all(&proposal.repeat(50)).await.is_ok() {
                tokio::task::yield_now().await;
                if stream.read(&mut [0; 1000]).await.is_ok_and(|count| count == 0) {
                    return;
                }
            }
        };
        // Long before the time for it is up, which is 10 s.
        let cut_off = tokio::time::timeout(Duration::from_secs(5), proposing);
        cut_off.await.expect("it is cut off");
    }
    NOTHING.to_owned()
}

/// Closes the connection at each step of its life.
pub(in crate::hostile) async fn closed_in_every_state(stage: &Stage) -> String {
    // Authenticated; a substream without a name; a name that is not answered.
    drop(stage.attacker().await);
    for named in [false, true] {
        let attacker = stage.attacker().await;
        let mut sub = attacker.wire.open().await.expect("a substream");
        sub.say(MULTISTREAM).await.expect("it is taken");
        if named {
            sub.say(crate::hostile::attacker::HANDSHAKE).await.expect("it is taken");
        }
        drop(attacker);
    }
    // Connected; within a message; with a stream opened too early.
    for step in 0..3 {
        let mut attacker = stage.attacker().await;
        let mut sub = attacker.connected().await;
        match step {
            0 => {}
            1 => sub.write(&[0, 0, 1, 0, 7]).await.expect("it is taken"),
            _ => drop(attacker.stream(STREAM).await),
        }
        is_lost(attacker).await;
    }
    // Established; within a name; within a record.
    let mut reason = String::new();
    for step in 0..3 {
        let mut attacker = stage.attacker().await;
        attacker.established().await;
        let mut sub = match step {
            0 | 1 => attacker.wire.open().await.expect("a substream"),
            _ => attacker.stream(STREAM).await,
        };
        match step {
            0 => {}
            1 => sub.write(&[19, b'/']).await.expect("it is taken"),
            _ => sub.write(&frame(&[7; 100])[..50]).await.expect("it is taken"),
        }
        reason = is_lost(attacker).await;
    }
    reason
}

async fn is_lost(mut attacker: Attacker<'_>) -> String {
    attacker.wire.close();
    let reason = attacker.session_ends().await;
    assert!(matches!(reason, CloseReason::ConnectionLost(_)), "{reason:?}");
    attacker.is_disconnected().await;
    reason.to_string()
}

/// Returns the first datagrams of handshakes with the victim, each of another connection.
async fn first_flights(stage: &Stage, count: usize) -> Vec<Vec<u8>> {
    let config = tls::client(&tls::certificate(&Keypair::generate_ed25519()));
    let hole = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let to = hole.local_addr().expect("bound");
    let any = "127.0.0.1:0".parse().expect("an address");
    let client = quinn::Endpoint::client(any).expect("a socket");
    // Kept, or each would say goodbye, and free its place.
    let mut connecting = Vec::new();
    let mut flights = BTreeMap::new();
    let catching = async {
        while flights.len() < count {
            if connecting.len() < count {
                let dial = client.connect_with(config.clone(), to, "l").expect("it dials");
                connecting.push(dial);
            }
            let mut flight = vec![0; 2048];
            let len = hole.recv(&mut flight).await.expect("a datagram");
            flight.truncate(len);
            // By the connection's first id; what follows on it is sent again or belongs to it.
            let id = flight[6..][..usize::from(flight[5])].to_vec();
            flights.entry(id).or_insert(flight);
        }
    };
    within("first flights are caught", catching).await;
    assert!(!stage.node().addrs().is_empty());
    flights.into_values().collect()
}

async fn send(stage: &Stage, datagram: &[u8]) {
    let from = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    from.send_to(datagram, socket(&stage.node().addrs()[0])).await.expect("sent");
}

async fn tcp(stage: &Stage) -> TcpStream {
    let to = socket(&stage.node().addrs()[0]);
    within("it is accepted", TcpStream::connect(to)).await.expect("it is accepted")
}

/// Reads until it is closed, in whatever way.
async fn drain(stream: &mut TcpStream) {
    drop(stream.read_to_end(&mut Vec::new()).await);
}
