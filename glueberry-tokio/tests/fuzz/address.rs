//! Addresses of peers, as text and as bytes, on their way into the book of a node.

use std::error::Error as _;
use std::sync::LazyLock;

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{AddressError, ErrorCode, Multiaddr, Node};
use tokio::runtime::Runtime;

/// Adds a peer at the address that the bytes are. What is refused is refused with a reason; what is
/// accepted is in the book as it was given.
pub(crate) fn fuzz_address(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let address = match how & 1 {
        0 => std::str::from_utf8(rest).ok().and_then(|text| text.parse::<Multiaddr>().ok()),
        _ => Multiaddr::try_from(rest.to_vec()).ok(),
    };
    if let Some(address) = address {
        WORLD.runtime.block_on(add(&WORLD, &address));
    }
}

async fn add(World { node, peer, .. }: &World, address: &Multiaddr) {
    match node.add_peer(*peer, [address.clone()]).await {
        Ok(()) => {
            let held = node.peer(*peer).await.expect("it was added").addrs;
            assert!(held.iter().eq([address]), "{held:?}, not {address}");
            node.remove_peer(*peer).await.expect("it was added");
        }
        Err(error) => {
            assert!(matches!(error.code(), ErrorCode::InvalidAddress | ErrorCode::LimitReached));
            assert!(!error.to_string().is_empty());
            if let Some(error) = error.source().and_then(|it| it.downcast_ref::<AddressError>()) {
                assert_eq!(error.address, *address);
                assert!(!error.problem.to_string().is_empty());
            }
            assert!(node.peer(*peer).await.is_err(), "refused, and in the book");
        }
    }
}

/// One node for all inputs: it listens nowhere, and dials nobody.
struct World {
    runtime: Runtime,
    node: Node,
    peer: PeerId,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let node = runtime.block_on(Node::builder(identity(1)).build()).expect("a node");
    World { runtime, node, peer: identity(2).public().to_peer_id() }
});

fn identity(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).expect("32 bytes")
}
