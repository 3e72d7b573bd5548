//! When a lost peer is dialled again.

use core::time::Duration;

use super::error::{ConfigError, Problem};
use crate::seed::Generator;

/// When and how often a peer that was lost, or could not be reached, is dialled again.
///
/// The wait before attempt *n*, counted from 0, is `min(initial_backoff · 2ⁿ, max_backoff)` times
/// a factor between 0.75 and 1.25 that is drawn from the node's seed, and never above
/// `max_backoff`. Attempts count from the last session that
/// [lasted](crate::Config::stable_after), or from the last `connect`.
///
/// ```
/// use std::time::Duration;
/// use glueberry_proto::ReconnectPolicy;
///
/// let mut policy = ReconnectPolicy::unlimited();
/// policy.max_backoff = Duration::from_secs(30);
/// assert_eq!(policy.initial_backoff, Duration::from_secs(1));
/// assert_eq!(policy.max_attempts, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ReconnectPolicy {
    /// Wait before the first attempt, give or take a quarter. 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub initial_backoff: Duration,
    /// Longest wait. 5 min.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub max_backoff: Duration,
    /// Attempts before the peer is given up; 0 is never to try, `None` never to give up. 10.
    pub max_attempts: Option<u32>,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(5 * 60),
            max_attempts: Some(10),
        }
    }
}

impl ReconnectPolicy {
    /// Returns the policy that never dials again by itself.
    pub fn never() -> Self {
        Self { max_attempts: Some(0), ..Self::default() }
    }

    /// Returns the default policy without its limit on attempts.
    pub fn unlimited() -> Self {
        Self { max_attempts: None, ..Self::default() }
    }

    /// Checks that the waits make sense.
    ///
    /// # Errors
    ///
    /// Names the field that does not, and why.
    pub fn check(&self) -> Result<(), ConfigError> {
        let field = "reconnect.initial_backoff";
        if self.initial_backoff.is_zero() {
            return Err(ConfigError { field, problem: Problem::Zero });
        }
        if self.initial_backoff > self.max_backoff {
            return Err(ConfigError { field, problem: Problem::Above("reconnect.max_backoff") });
        }
        Ok(())
    }

    pub(crate) fn allows(&self, attempts: u32) -> bool {
        self.max_attempts.is_none_or(|max| attempts < max)
    }

    /// Returns the wait before the attempt of the given number, counted from 0.
    pub(crate) fn backoff(&self, attempt: u32, random: &mut Generator) -> Duration {
        let initial = self.initial_backoff.as_micros();
        let max = self.max_backoff.as_micros();
        let base = 1_u128
            .checked_shl(attempt.min(64))
            .map_or(max, |factor| initial.saturating_mul(factor).min(max));
        // Three quarters, and up to a half more, in steps of a 2^32nd.
        let drawn = base.saturating_mul(u128::from(random.u32())) >> 33;
        let wait = (base - base / 4).saturating_add(drawn).min(max);
        Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seed::Seed;

    proptest! {
        #[test]
        fn the_wait_is_within_a_quarter_and_never_above_the_maximum(
            initial in 1_u64..=1_000_000_000,
            max in 1_u64..=u64::MAX / 2,
            attempt: u32,
            seed: [u8; 32],
        ) {
            let policy = ReconnectPolicy {
                initial_backoff: Duration::from_micros(initial),
                max_backoff: Duration::from_micros(max),
                max_attempts: None,
            };
            let wait = policy.backoff(attempt, &mut Seed::from_bytes(seed).generator()).as_micros();
            let factor = 1_u128 << attempt.min(64);
            let base = (u128::from(initial) * factor).min(u128::from(max));
            prop_assert!(wait <= u128::from(max));
            prop_assert!(4 * wait + 3 >= 3 * base, "{wait} of {base}");
            prop_assert!(4 * wait <= 5 * base, "{wait} of {base}");
        }
    }

    #[test]
    fn waits_differ_and_attempts_are_counted() {
        let policy = ReconnectPolicy::default();
        let mut random = Seed::from_bytes([7; 32]).generator();
        let waits: Vec<Duration> = (0..20).map(|_| policy.backoff(3, &mut random)).collect();
        assert!(waits.iter().any(|wait| *wait < Duration::from_secs(8)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(8)));
        assert!(policy.allows(9) && !policy.allows(10));
        assert!(!ReconnectPolicy::never().allows(0));
        assert!(ReconnectPolicy::unlimited().allows(u32::MAX));
    }
}
