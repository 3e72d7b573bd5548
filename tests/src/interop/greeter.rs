//! The application's side of the handshake: Hello, PubKey, Complete.

use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{HANDSHAKE, Message, PublicKey};

use crate::party::Party;

/// When this side finalizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finalize {
    /// Once the peer has said Complete.
    AfterComplete,
    /// As soon as it has said Complete itself.
    AtOnce,
}

/// Greets a peer that is Connected. Fails on anything but a message of the handshake, since
/// nothing else may be delivered before Established.
pub(super) async fn greet(party: &mut Party, peer: PeerId, finalize: Finalize, streams: &[&str]) {
    say(party, peer, &[HELLO]).await;
    let (mut has_told_key, mut is_prepared, mut is_complete) = (false, false, false);
    loop {
        let Message { peer: from, data, .. } = handshake_message(party).await;
        assert_eq!(from, peer);
        match data.split_first() {
            Some((&HELLO, _)) if !has_told_key => {
                has_told_key = true;
                let key = party.node.public_key();
                say(party, peer, &[&[PUB_KEY][..], key.as_bytes()].concat()).await;
            }
            Some((&PUB_KEY, key)) if !is_prepared => {
                is_prepared = true;
                let key = PublicKey::from_bytes(key).expect("a key");
                party.node.prepare_streams(peer, key, streams).await.expect("prepared");
                say(party, peer, &[COMPLETE]).await;
            }
            Some((&COMPLETE, _)) => is_complete = true,
            _ => {}
        }
        if is_prepared && has_told_key && (is_complete || finalize == Finalize::AtOnce) {
            return party.node.finalize_handshake(peer).await.expect("finalized");
        }
    }
}

async fn handshake_message(party: &mut Party) -> Message {
    let message = party.receive().await;
    assert!(message.is_handshake(), "`{}` was delivered too early", message.stream());
    message
}

async fn say(party: &Party, peer: PeerId, message: &[u8]) {
    party.node.send(peer, HANDSHAKE, message.to_vec()).await.expect("said");
}

const HELLO: u8 = 1;
const PUB_KEY: u8 = 2;
const COMPLETE: u8 = 3;
