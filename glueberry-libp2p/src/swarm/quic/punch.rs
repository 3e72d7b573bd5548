//! Holes in the routers of this side.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use glueberry_tokio::runtime::Runtime;

/// Sends packets that mean nothing to a peer, so that routers let through what it sends, until that
/// fails, or this is dropped.
pub(super) async fn holes(
    socket: UdpSocket,
    to: SocketAddr,
    runtime: Arc<dyn Runtime>,
) -> io::Error {
    loop {
        let random: Vec<[u8; 8]> = (0..8).map(|_| any().to_ne_bytes()).collect();
        match socket.send_to(random.as_flattened(), to) {
            Ok(_) => {}
            // The next one will do.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return error,
        }
        // Not in step with the peer, which does the same.
        runtime.sleep(Duration::from_millis(10 + any() % 190)).await;
    }
}

/// Returns a number that is as random as it need be.
fn any() -> u64 {
    RandomState::new().build_hasher().finish()
}
