//! Seeded draws: whole numbers only, so that every platform draws the same.

/// A small generator (xoshiro256++).
///
/// Each thing that draws has one of its own, derived from the run's seed and what the thing is. So
/// taking one thing out of a run, as the shrinker does, leaves the draws of the others as they
/// were.
#[derive(Clone, Debug)]
pub(crate) struct Rng([u64; 4]);

impl Rng {
    /// Derives the generator of the thing `index` of a kind.
    pub(crate) const fn derive(seed: u64, kind: u64, index: u64) -> Self {
        let state = mix(seed) ^ mix(kind).rotate_left(17) ^ mix(!index);
        let [a, b, c, d] = [GOLDEN, GOLDEN << 1, GOLDEN << 2, GOLDEN << 3];
        Self([mix(state ^ a), mix(state ^ b), mix(state ^ c), mix(state ^ d)])
    }

    pub(crate) const fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Draws a number below `bound`; zero if that is zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// Draws a number from `low` to `high`, both included.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low.saturating_add(self.below(high.saturating_sub(low).saturating_add(1)))
    }

    /// Returns whether something happens that does `per_mille` times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Draws an index below `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize_of(self.below(u64_of(len)))
    }

    /// Draws one of `choices`, of which there is at least one.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Draws from about an exponential distribution: each halving of the probability adds the
    /// same, with a straight line between.
    pub(crate) fn exponential(&mut self, mean: u64) -> u64 {
        let draw = self.next() | 1;
        let halvings = draw.leading_zeros();
        let within = (draw << halvings << 1) >> 44;
        let halvings = ((u64::from(halvings) + 1) << 20) - within;
        // On average 1.5 of them were drawn.
        u64::try_from((u128::from(mean) * u128::from(halvings) * 2 / 3) >> 20).unwrap_or(u64::MAX)
    }
}

/// Spreads a number over all bits (the finaliser of splitmix64).
pub(crate) const fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(GOLDEN);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub(crate) fn u64_of(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

pub(crate) fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_draws_the_same_and_others_differ() {
        let draw = |seed, kind, index| Rng::derive(seed, kind, index).next();
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        let all = [draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4), draw(3, 2, 1)];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }

    #[test]
    fn draws_stay_within_their_bounds_and_reach_them() {
        let mut rng = Rng::derive(1, 1, 1);
        let draws: Vec<u64> = (0..1000).map(|_| rng.range(3, 6)).collect();
        assert_eq!((draws.iter().min(), draws.iter().max()), (Some(&3), Some(&6)));
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn the_exponential_distribution_has_its_mean_and_its_tail() {
        let mut rng = Rng::derive(7, 7, 7);
        let draws: Vec<u64> = (0..100_000).map(|_| rng.exponential(1000)).collect();
        let mean = draws.iter().sum::<u64>() / u64_of(draws.len());
        assert!((970..1030).contains(&mean), "{mean}");
        let beyond = draws.iter().filter(|draw| **draw > 3000).count();
        assert!((3_000..7_000).contains(&beyond), "{beyond}");
    }
}
