//! Networks that lose datagrams, and addresses at which nobody says anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use glueberry_tokio::Multiaddr;
use tokio::net::{TcpListener, UdpSocket};

use crate::fabric::Fabric;

/// An address at which a dial gets no answer, not even a refusal.
#[derive(Debug)]
#[non_exhaustive]
pub struct Silent {
    /// The address.
    pub address: Multiaddr,
    _tcp: Option<TcpListener>,
    _udp: Option<UdpSocket>,
}

impl Silent {
    /// Takes a port and does nothing with it.
    pub async fn new(fabric: Fabric) -> Self {
        if fabric.is_datagrams() {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let port = udp.local_addr().expect("bound").port();
            let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().expect("address");
            return Self { address, _tcp: None, _udp: Some(udp) };
        }
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let port = tcp.local_addr().expect("bound").port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("address");
        Self { address, _tcp: Some(tcp), _udp: None }
    }
}

/// Forwards datagrams to a node, and those that come back, but for every `every`th; returns where
/// to send them. It ends with the runtime.
pub async fn losing(target: &Multiaddr, every: usize) -> Multiaddr {
    let mut count = 0;
    let is_lost = move |_: Way, _: &[u8]| {
        count += 1;
        count % every == 0
    };
    through(target, is_lost).await
}

/// Forwards datagrams to a node, and those that come back. Once the flag is set, the long ones that come
/// back are lost: those with messages in them, and not those with acknowledgements.
pub async fn losing_long(target: &Multiaddr) -> (Multiaddr, Arc<AtomicBool>) {
    let flag = Arc::new(AtomicBool::new(false));
    let is_losing = flag.clone();
    let is_lost = move |way, data: &[u8]| {
        way == Way::Back && data.len() > LONG && is_losing.load(Ordering::Relaxed)
    };
    (through(target, is_lost).await, flag)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

async fn through(
    target: &Multiaddr,
    mut is_lost: impl FnMut(Way, &[u8]) -> bool + Send + 'static,
) -> Multiaddr {
    let target = socket_of(target);
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a socket"));
    let port = front.local_addr().expect("bound").port();
    drop(tokio::spawn(async move {
        let mut client: Option<SocketAddr> = None;
        let (mut out, mut home) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            let (way, socket, to, data) = tokio::select! {
                received = front.recv_from(&mut out) => {
                    let Ok((len, from)) = received else { continue };
                    client = Some(from);
                    (Way::There, &back, target, out.get(..len))
                }
                received = back.recv_from(&mut home) => {
                    let (Ok((len, _)), Some(client)) = (received, client) else { continue };
                    (Way::Back, &front, client, home.get(..len))
                }
            };
            let data = data.unwrap_or_default();
            if !is_lost(way, data) {
                // What cannot be sent is lost too.
                socket.send_to(data, to).await.unwrap_or_default();
            }
        }
    }));
    format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().expect("an address")
}

fn socket_of(address: &Multiaddr) -> SocketAddr {
    let text = address.to_string();
    let port = text.split('/').nth(4).and_then(|port| port.parse().ok()).expect("a UDP port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Bytes of a datagram that carries more than acknowledgements.
const LONG: usize = 400;
