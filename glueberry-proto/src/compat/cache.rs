//! A cache of derived keys.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use core::num::NonZeroUsize;

use crate::crypto::{AgreementError, Identity, PublicKey, SharedKey};

/// The keys that one identity shares with its peers, bounded in number.
///
/// A full cache drops the key that was derived first. Every key is wiped when it leaves. A lookup
/// converts the peer's public key to X25519, which takes a tenth of the time of an agreement.
///
/// ```
/// use std::{num::NonZeroUsize, sync::Arc};
/// use glueberry_proto::{Identity, compat::KeyCache};
///
/// let mut cache = KeyCache::new(Arc::new(Identity::from_seed(&[1; 32])), NonZeroUsize::MIN);
/// for peer in [2, 3] {
///     cache.shared_key(&Identity::from_seed(&[peer; 32]).public_key())?;
/// }
/// assert_eq!(cache.len(), 1, "the older one was dropped");
/// # Ok::<(), glueberry_proto::crypto::AgreementError>(())
/// ```
#[derive(Debug)]
pub struct KeyCache {
    local: Arc<Identity>,
    capacity: NonZeroUsize,
    keys: BTreeMap<[u8; 32], SharedKey>,
    order: VecDeque<[u8; 32]>,
}

impl KeyCache {
    /// Creates an empty cache for at most `capacity` keys.
    #[must_use]
    pub const fn new(local: Arc<Identity>, capacity: NonZeroUsize) -> Self {
        Self { local, capacity, keys: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Returns the key shared with `peer`. Derives it if it is not in the cache.
    ///
    /// # Errors
    /// Those of [`Identity::agree_v1`]; nothing is stored then.
    pub fn shared_key(&mut self, peer: &PublicKey) -> Result<&SharedKey, AgreementError> {
        let remote = peer.to_x25519();
        if !self.keys.contains_key(&remote) {
            let key = self.local.agree_v1(peer)?;
            self.make_room();
            self.order.push_back(remote);
            self.keys.insert(remote, key);
        }
        Ok(&self.keys[&remote])
    }

    /// Wipes the key shared with `peer`. Returns true if there was one.
    pub fn remove(&mut self, peer: &PublicKey) -> bool {
        let remote = peer.to_x25519();
        self.order.retain(|key| *key != remote);
        self.keys.remove(&remote).is_some()
    }

    /// Wipes every key.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.order.clear();
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn make_room(&mut self) {
        while self.keys.len() >= self.capacity.get() {
            let Some(oldest) = self.order.pop_front() else { break };
            self.keys.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(capacity: usize) -> KeyCache {
        let capacity = NonZeroUsize::new(capacity).unwrap();
        KeyCache::new(Arc::new(Identity::from_seed(&[1; 32])), capacity)
    }

    fn peer(seed: u8) -> PublicKey {
        Identity::from_seed(&[seed; 32]).public_key()
    }

    fn holds(cache: &KeyCache, seed: u8) -> bool {
        cache.keys.contains_key(&peer(seed).to_x25519())
    }

    #[test]
    fn same_key_as_without_it() {
        let mut cache = cache(2);
        let key = Identity::from_seed(&[1; 32]).agree_v1(&peer(2)).unwrap();
        assert_eq!(*cache.shared_key(&peer(2)).unwrap(), key);
        assert_eq!(*cache.shared_key(&peer(2)).unwrap(), key);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn oldest_makes_room() {
        let mut cache = cache(2);
        for seed in [2, 3, 2, 4] {
            cache.shared_key(&peer(seed)).unwrap();
        }
        assert_eq!((cache.len(), cache.order.len()), (2, 2));
        assert_eq!([2, 3, 4].map(|seed| holds(&cache, seed)), [false, true, true]);
    }

    #[test]
    fn removed_and_cleared() {
        let mut cache = cache(8);
        for seed in [2, 3, 4] {
            cache.shared_key(&peer(seed)).unwrap();
        }
        assert!(cache.remove(&peer(3)));
        assert!(!cache.remove(&peer(3)));
        assert_eq!((cache.len(), cache.order.len()), (2, 2));
        cache.clear();
        assert!(cache.is_empty());
        assert!(cache.order.is_empty());
    }

    #[test]
    fn failures_are_not_stored() {
        let mut cache = cache(1);
        cache.shared_key(&peer(2)).unwrap();
        assert_eq!(cache.shared_key(&peer(1)).err(), Some(AgreementError::OwnKey));
        assert!(holds(&cache, 2));
    }
}
