//! Which profiles a session may have.

use crate::config::Config;
use crate::prelude::*;
use crate::wire::Profile;

/// The profiles that a session may have, as long as none is agreed.
#[derive(Debug)]
pub(crate) struct Offer {
    allowed: Vec<Profile>,
    /// Those that would be allowed if the peer were not held to v2. The session ends if the peer comes
    /// with one of them.
    withheld: Vec<Profile>,
}

impl Offer {
    /// Returns what the configuration allows; with `is_pinned`, of a peer that is held to v2.
    pub(crate) fn new(config: &Config, is_pinned: bool) -> Self {
        let mut offer = Self { allowed: config.allowed_profiles().collect(), withheld: Vec::new() };
        if is_pinned {
            offer.pin();
        }
        offer
    }

    /// Holds the peer to v2.
    pub(super) fn pin(&mut self) {
        let (allowed, withheld) = self.allowed.iter().partition(|profile| **profile == Profile::V2);
        // Where this side has no v2, the pin would leave nothing to talk with.
        if self.withheld.is_empty() && self.allowed.contains(&Profile::V2) {
            (self.allowed, self.withheld) = (allowed, withheld);
        }
    }

    /// Returns the profiles in the order in which they are proposed.
    pub(super) fn allowed(&self) -> &[Profile] {
        &self.allowed
    }

    pub(super) fn withheld(&self) -> &[Profile] {
        &self.withheld
    }

    pub(super) fn is_withheld(&self, profile: Profile) -> bool {
        self.withheld.contains(&profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(profiles: &[Profile], is_pinned: bool) -> Offer {
        Offer::new(&Config { profiles: profiles.to_vec(), ..Config::default() }, is_pinned)
    }

    #[test]
    fn a_pinned_peer_is_offered_v2_only() {
        let all = offer(&Profile::ALL, false);
        assert_eq!((all.allowed(), all.withheld()), (&Profile::ALL[..], &[][..]));
        for mut pinned in [offer(&Profile::ALL, true), all] {
            pinned.pin();
            assert_eq!(pinned.allowed(), [Profile::V2]);
            assert_eq!(pinned.withheld(), [Profile::V1, Profile::V1Go]);
            assert!(pinned.is_withheld(Profile::V1) && !pinned.is_withheld(Profile::V2));
        }
    }

    #[test]
    fn a_pin_leaves_a_side_without_v2_what_it_has() {
        let old = offer(&[Profile::V1], true);
        assert_eq!((old.allowed(), old.withheld()), (&[Profile::V1][..], &[][..]));
    }
}
