//! How long records are made (WIRE.md §8.2).

use core::num::NonZeroU16;

/// How a node hides the lengths of what it sends in v2: zeros are added to each record that carries
/// messages, before it is encrypted. The peer takes them off, whatever it adds itself.
///
/// It hides lengths from who sees the transport's plaintext, such as a relay, and from who sees
/// packets. It does not hide how many records there are, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Padding {
    /// Nothing is added.
    #[default]
    None,
    /// The slice of a record (WIRE.md §8.2) has a multiple of this length in bytes, or the longest
    /// that a record is sent with, 16,384 bytes, if that is less.
    Multiple(NonZeroU16),
    /// The slice has one of the few lengths of Padmé, which adds 12 % at most: all but the first bits
    /// of the length are zero (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
    /// Communication with PURBs", 2019, §4.1).
    Padme,
}

impl Padding {
    /// Returns the length that a slice of `len` bytes gets, if at most `limit` can be sent.
    pub(crate) fn padded(self, len: usize, limit: usize) -> usize {
        let padded = match self {
            Self::None => len,
            Self::Multiple(of) => len.next_multiple_of(usize::from(of.get())),
            Self::Padme => padme(len),
        };
        padded.min(limit).max(len)
    }
}

/// Returns the next length of which all but as many bits as its exponent needs are zero.
fn padme(len: usize) -> usize {
    let Some(exponent) = len.checked_ilog2() else {
        return 0;
    };
    let kept = exponent.checked_ilog2().map_or(0, |log| log + 1);
    let mask = (1_usize << exponent.saturating_sub(kept)) - 1;
    len.saturating_add(mask) & !mask
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lengths_of_padme() {
        // By hand from the paper's algorithm.
        for (len, expected) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (8, 8),
            (9, 10),
            (17, 18),
            (64, 64),
            (65, 72),
            (1000, 1024),
            (10_000, 10_240),
        ] {
            assert_eq!(padme(len), expected, "{len}");
        }
    }

    proptest! {
        #[test]
        fn padding_is_bounded(len in 0_usize..20_000, of in 1_u16.., limit in 0_usize..20_000) {
            let of = NonZeroU16::new(of).unwrap();
            for padding in [Padding::None, Padding::Multiple(of), Padding::Padme] {
                let padded = padding.padded(len, limit);
                prop_assert!(padded >= len && padded <= limit.max(len));
            }
            let multiple = Padding::Multiple(of).padded(len, usize::MAX);
            let of = usize::from(of.get());
            prop_assert!(multiple.is_multiple_of(of) && multiple - len < of);
            prop_assert!((padme(len) - len) * 100 <= len * 12);
        }
    }
}
