//! The sessions of a node: which peer each belongs to, and how one is made.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use super::connection::NewConnection;
use super::env::Env;
use super::store::Store;
use crate::crypto::{Aead, Identity, PublicKey};
use crate::drop_guard::{DropFlag, DropWatch};
use crate::id::{Counter, SessionId};
use crate::prelude::*;
use crate::seed::Seed;
use crate::session::{Direction, Offer, Session, SessionParams};
use crate::v2::agreement::Binding;

/// The sessions that have not ended, by id. What is known of each is with its peer.
#[derive(Debug)]
pub(super) struct Sessions {
    owners: BTreeMap<SessionId, (PublicKey, DropWatch)>,
    dropped: DropFlag,
    ids: Counter,
    aead: Arc<dyn Aead>,
    identity: Arc<Identity>,
    seed: Seed,
}

impl Sessions {
    pub(super) fn new(aead: Arc<dyn Aead>, identity: Arc<Identity>, seed: Seed) -> Self {
        let (owners, ids, dropped) = (BTreeMap::new(), Counter::default(), DropFlag::default());
        Self { owners, dropped, ids, aead, identity, seed }
    }

    /// Has the sessions that follow depend on this entropy as well.
    pub(super) fn add_entropy(&mut self, entropy: &[u8; 32]) {
        self.seed.mix(entropy);
    }

    /// Makes the session of a connection.
    pub(super) fn create(
        &mut self,
        env: &Env,
        connection: NewConnection,
        direction: Direction,
        store: &Store,
    ) -> Session {
        let NewConnection { peer, naming, .. } = connection;
        let id = SessionId::new(self.ids.next());
        let (guard, watch) = self.dropped.guard();
        self.owners.insert(id, (peer, watch));
        let params = SessionParams {
            config: env.config.clone(),
            aead: self.aead.clone(),
            identity: self.identity.clone(),
            peer,
            id,
            direction,
            naming,
            offer: Offer::new(&env.config, store.is_held_to_v2(peer, env)),
            seed: self.seed.child(b"session", id.as_u64()),
            wall_ms: store.wall_at(env.now).unix_millis(),
            guard: Some(guard),
            binding: Binding::None,
        };
        Session::new(env.now, params)
    }

    /// Returns the peer of a session; `None` if the session has ended.
    pub(super) fn owner(&self, id: SessionId) -> Option<PublicKey> {
        self.owners.get(&id).map(|(peer, _)| *peer)
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<PublicKey> {
        self.owners.remove(&id).map(|(peer, _)| peer)
    }

    /// Returns the sessions that were dropped since the last time, of which no end was reported.
    pub(super) fn take_dropped(&self) -> Vec<SessionId> {
        if !self.dropped.take() {
            return Vec::new();
        }
        let gone = self.owners.iter().filter(|(_, (_, watch))| watch.is_gone());
        gone.map(|(id, _)| *id).collect()
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = (SessionId, PublicKey)> {
        self.owners.iter().map(|(id, (peer, _))| (*id, *peer))
    }

    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::default_aead;

    #[test]
    fn fresh_entropy_changes_the_seeds_of_the_sessions_that_follow() {
        let seed_after = |entropy: &[[u8; 32]]| {
            let identity = Arc::new(Identity::from_seed(&[1; 32]));
            let mut sessions = Sessions::new(default_aead(), identity, Seed::from_bytes([7; 32]));
            entropy.iter().for_each(|one| sessions.add_entropy(one));
            *sessions.seed.child(b"session", 0).bytes()
        };
        // As after a restored snapshot: all is the same but for what the system gives.
        assert_ne!(seed_after(&[[1; 32]]), seed_after(&[[2; 32]]));
        assert_ne!(seed_after(&[]), seed_after(&[[1; 32]]));
        assert_eq!(seed_after(&[[1; 32]]), seed_after(&[[1; 32]]));
    }
}
