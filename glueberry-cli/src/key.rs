//! Identities.

use std::path::Path;

use glueberry_tokio::identity::{self, PeerId};
use glueberry_tokio::{Multiaddr, PublicKey};
use serde_json::json;

use crate::output::{Failure, Output};

pub(crate) fn create(path: &Path, output: Output) -> Result<(), Failure> {
    let is_new = !path.exists();
    let peer = identity::load_or_create(path)?.public().to_peer_id();
    describe(peer, is_new, output)
}

pub(crate) fn show(of: &str, output: Output) -> Result<(), Failure> {
    let peer = match Path::new(of).exists() {
        true => identity::load(of)?.public().to_peer_id(),
        false => parse(of)?,
    };
    describe(peer, false, output)
}

/// Reads a peer id, a public key or an address.
fn parse(of: &str) -> Result<PeerId, Failure> {
    if let Ok(peer) = of.parse::<PeerId>() {
        return Ok(peer);
    }
    if let Some(key) = hex::decode(of).ok().and_then(|it| PublicKey::from_bytes(&it).ok()) {
        return Ok(key.into());
    }
    let Ok(address) = of.parse::<Multiaddr>() else {
        let text = format!("`{of}` is no file, peer id, public key or address");
        return Err(Failure::new(text));
    };
    let last = address.iter().last().map(|it| it.to_string());
    let peer = last.as_deref().and_then(|it| it.strip_prefix("/p2p/")?.parse().ok());
    peer.ok_or_else(|| Failure::new(format!("`{of}` names no peer: it does not end in /p2p/PEER")))
}

fn describe(peer: PeerId, is_new: bool, output: Output) -> Result<(), Failure> {
    let key = PublicKey::try_from(&peer).map_err(|error| Failure::new(error.to_string()))?;
    let key = hex::encode(key.as_bytes());
    let text = format!("peer id     {peer}\npublic key  {key}");
    output.say(text, &json!({ "peer_id": peer.to_string(), "public_key": key, "created": is_new }));
    Ok(())
}
