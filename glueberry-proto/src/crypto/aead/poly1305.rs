//! Poly1305 (RFC 8439 §2.5) over the verified field arithmetic of fiat-crypto.
//!
//! For short texts: see [`chacha`](super::chacha) for why it is not the crate `poly1305`.

use fiat_crypto::poly1305_64::{
    fiat_poly1305_add, fiat_poly1305_carry, fiat_poly1305_carry_mul,
    fiat_poly1305_loose_field_element as Loose, fiat_poly1305_relax,
    fiat_poly1305_tight_field_element as Tight, fiat_poly1305_to_bytes,
};
use zeroize::Zeroize;

/// The authenticator of one text. Wiped on drop.
pub(super) struct Poly1305 {
    r: Loose,
    sum: Tight,
    pad: u128,
}

impl Poly1305 {
    /// Begins with the two halves of the key, which is for one text only.
    pub(super) fn new(r: &[u8; BLOCK_LEN], pad: &[u8; BLOCK_LEN]) -> Self {
        let r = relax(&element(u128::from_le_bytes(*r) & CLAMP, 0));
        Self { r, sum: Tight([0; 3]), pad: u128::from_le_bytes(*pad) }
    }

    /// Adds bytes, padded with zeros to a multiple of 16 as the AEAD wants them (§2.8).
    pub(super) fn update_padded(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks();
        let (fours, ones) = blocks.as_chunks();
        if fours.len() < WORTH_POWERS {
            blocks.iter().for_each(|block| self.update(block));
        } else {
            self.update_fours(fours);
            ones.iter().for_each(|block| self.update(block));
        }
        if !rest.is_empty() {
            let mut block = [0; BLOCK_LEN];
            block[..rest.len()].copy_from_slice(rest);
            self.update(&block);
        }
    }

    /// Adds one block.
    #[inline]
    pub(super) fn update(&mut self, block: &[u8; BLOCK_LEN]) {
        let mut sum = Loose([0; 3]);
        fiat_poly1305_add(&mut sum, &self.sum, &element(u128::from_le_bytes(*block), 1));
        fiat_poly1305_carry_mul(&mut self.sum, &sum, &self.r);
    }

    /// Adds blocks, four at a time: their products do not wait for each other.
    ///
    /// `sum` and `late` are added up where they are used next. Three sums of this kind are what a factor
    /// may be.
    fn update_fours(&mut self, fours: &[[[u8; BLOCK_LEN]; 4]]) {
        let powers = Powers::of(&self.r);
        let mut late = Tight([0; 3]);
        for [first, second, third, fourth] in fours {
            let [first, second, third, fourth] =
                [first, second, third, fourth].map(|block| element(u128::from_le_bytes(*block), 1));
            let first = times(&three(&self.sum, &late, &first), &powers.fourth);
            let second = times(&relax(&second), &powers.third);
            let third = times(&relax(&third), &powers.second);
            late = times(&relax(&fourth), &self.r);
            fiat_poly1305_carry(&mut self.sum, &three(&first, &second, &third));
        }
        let mut sum = Loose([0; 3]);
        fiat_poly1305_add(&mut sum, &self.sum, &late);
        fiat_poly1305_carry(&mut self.sum, &sum);
        late.0.zeroize();
    }

    /// Returns the tag.
    pub(super) fn finish(self) -> [u8; BLOCK_LEN] {
        let mut bytes = [0; 17];
        // Reduced, so that the last byte has two bits at most; the sum is modulo 2^128.
        fiat_poly1305_to_bytes(&mut bytes, &self.sum);
        let [sum @ .., _] = bytes;
        u128::from_le_bytes(sum).wrapping_add(self.pad).to_le_bytes()
    }
}

impl Drop for Poly1305 {
    fn drop(&mut self) {
        self.r.0.zeroize();
        self.sum.0.zeroize();
        self.pad.zeroize();
    }
}

/// Powers of the multiplier. Wiped on drop.
struct Powers {
    second: Loose,
    third: Loose,
    fourth: Loose,
}

impl Powers {
    fn of(r: &Loose) -> Self {
        let second = relax(&times(r, r));
        let third = relax(&times(&second, r));
        let fourth = relax(&times(&second, &second));
        Self { second, third, fourth }
    }
}

impl Drop for Powers {
    fn drop(&mut self) {
        for power in [&mut self.second, &mut self.third, &mut self.fourth] {
            power.0.zeroize();
        }
    }
}

#[inline]
fn relax(tight: &Tight) -> Loose {
    let mut relaxed = Loose([0; 3]);
    fiat_poly1305_relax(&mut relaxed, tight);
    relaxed
}

#[inline]
fn times(a: &Loose, b: &Loose) -> Tight {
    let mut product = Tight([0; 3]);
    fiat_poly1305_carry_mul(&mut product, a, b);
    product
}

/// Returns the sum of three, whose limbs are at most what those of a factor may be.
#[inline]
fn three(a: &Tight, b: &Tight, c: &Tight) -> Loose {
    Loose(core::array::from_fn(|limb| a.0[limb] + b.0[limb] + c.0[limb]))
}

/// Returns `low + high * 2^128` in limbs of 44, 43 and 43 bits.
#[inline]
fn element(low: u128, high: u64) -> Tight {
    let limb = |bits: u128, mask: u64| {
        let [bytes @ .., _, _, _, _, _, _, _, _] = bits.to_le_bytes();
        u64::from_le_bytes(bytes) & mask
    };
    let top = limb(low >> 87, MASK_43) | (high << 41);
    Tight([limb(low, MASK_44), limb(low >> 44, MASK_43), top])
}

pub(super) const BLOCK_LEN: usize = 16;
/// Four times as many blocks, at least, repay three multiplications for the powers.
const WORTH_POWERS: usize = 3;
/// The bits that a multiplier may have (§2.5).
const CLAMP: u128 = 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
const MASK_44: u64 = (1 << 44) - 1;
const MASK_43: u64 = (1 << 43) - 1;

#[cfg(test)]
mod tests {
    use fiat_crypto::poly1305_64::fiat_poly1305_from_bytes;
    use proptest::prelude::*;

    use super::*;

    fn tag(key: &str, text: &str) -> String {
        let key = hex::decode(key).unwrap();
        let half = |at: usize| key[at..][..BLOCK_LEN].try_into().unwrap();
        let mut mac = Poly1305::new(&half(0), &half(BLOCK_LEN));
        mac.update_padded(&hex::decode(text).unwrap());
        hex::encode(mac.finish())
    }

    /// RFC 8439, A.3, vectors 7 to 11: where sums are about the modulus, or 2^128.
    #[test]
    fn sums_about_the_modulus() {
        let (zeros, ones) = ("00".repeat(16), "ff".repeat(16));
        let (one, two) = (format!("01{}", "00".repeat(15)), format!("02{}", "00".repeat(15)));
        let (three, five) = (format!("03{}", "00".repeat(15)), format!("05{}", "00".repeat(15)));
        assert_eq!(tag(&format!("{two}{zeros}"), &ones), three);
        assert_eq!(tag(&format!("{two}{ones}"), &two), three);
        let text = format!("{ones}f0{}11{}", "ff".repeat(15), "00".repeat(15));
        assert_eq!(tag(&format!("{one}{zeros}"), &text), five);
        let text = format!("{ones}fb{}{}", "fe".repeat(15), "01".repeat(16));
        assert_eq!(tag(&format!("{one}{zeros}"), &text), zeros);
        let text = format!("fd{}", "ff".repeat(15));
        assert_eq!(tag(&format!("{two}{zeros}"), &text), format!("fa{}", "ff".repeat(15)));
    }

    proptest! {
        /// At the longest text of its kind, and with limbs as large as they get.
        #[test]
        fn four_at_a_time_are_as_one_by_one(
            key: [u8; 32],
            text in prop::collection::vec(any::<u8>(), 0..1000),
            is_full: bool,
        ) {
            let half = |at: usize| key[at..][..BLOCK_LEN].try_into().unwrap();
            let text = if is_full { vec![0xff; text.len()] } else { text };
            let [mut one, mut four] = [(); 2].map(|()| Poly1305::new(&half(0), &half(BLOCK_LEN)));
            four.update_padded(&text);
            for part in text.chunks(BLOCK_LEN) {
                one.update_padded(part);
            }
            prop_assert_eq!(one.finish(), four.finish());
        }

        #[test]
        fn limbs_are_those_of_the_verified_code(bytes: [u8; 16], is_block: bool) {
            let high = u64::from(is_block);
            let mut encoded = [0; 17];
            encoded[..16].copy_from_slice(&bytes);
            encoded[16] = u8::from(is_block);
            let mut expected = Tight([0; 3]);
            fiat_poly1305_from_bytes(&mut expected, &encoded);
            prop_assert_eq!(element(u128::from_le_bytes(bytes), high).0, expected.0);
        }
    }
}
