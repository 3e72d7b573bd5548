//! The key exchange's frame (WIRE.md §6.3).

use super::Role;
use super::suite::Suite;
use super::violation::Violation;
use crate::prelude::*;

/// What a side offers in the key exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kex {
    /// Types of channel binding, one bit each.
    pub(crate) bindings: u8,
    /// Numbers of suites; unknown ones too.
    pub(crate) suites: Vec<u16>,
    pub(crate) ephemeral: [u8; 32],
    /// The encapsulation key of ML-KEM-768, of R only. Its length is checked where it is used.
    pub(crate) kem_key: Option<Vec<u8>>,
}

impl Kex {
    /// Returns the frame, from the type byte on.
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut out = vec![0x01, VERSION, self.bindings];
        out.push(u8::try_from(self.suites.len()).expect("there are few suites"));
        for suite in &self.suites {
            out.extend_from_slice(&suite.to_be_bytes());
        }
        out.extend_from_slice(&self.ephemeral);
        if let Some(key) = &self.kem_key {
            let len = u16::try_from(key.len()).expect("the key has a fixed length");
            out.extend_from_slice(&KEM_KEY.to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(key);
        }
        out
    }

    /// Reads the frame of a peer in this role, behind the type byte.
    pub(crate) fn parse(body: &[u8], from: Role) -> Result<Self, Violation> {
        let mut rest = body;
        let [version, bindings, count] = take(&mut rest)?;
        if version != VERSION || !(1..=MAX_SUITES).contains(&count) {
            return Err(Violation::BadFrame);
        }
        let mut suites = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            suites.push(u16::from_be_bytes(take(&mut rest)?));
        }
        let ephemeral = take(&mut rest)?;
        let kem_key = parse_extensions(rest)?;
        let is_hybrid = |code: &u16| {
            Suite::RANKED.iter().any(|suite| suite.code() == *code && suite.is_post_quantum())
        };
        let is_due = from == Role::Responder && suites.iter().any(is_hybrid);
        if kem_key.is_some() != is_due {
            return Err(Violation::BadFrame);
        }
        Ok(Self { bindings, suites, ephemeral, kem_key })
    }
}

/// Reads the extensions, and returns the encapsulation key if there is one.
fn parse_extensions(mut rest: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
    let mut kem_key = None;
    let mut last = None;
    while !rest.is_empty() {
        let kind = u16::from_be_bytes(take(&mut rest)?);
        let len = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let (value, behind) = rest.split_at_checked(len).ok_or(Violation::BadFrame)?;
        rest = behind;
        if last.is_some_and(|last| last >= kind) {
            return Err(Violation::BadFrame);
        }
        last = Some(kind);
        if kind == KEM_KEY {
            kem_key = Some(value.to_vec());
        }
    }
    Ok(kem_key)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Violation> {
    let (first, behind) = rest.split_first_chunk().ok_or(Violation::BadFrame)?;
    *rest = behind;
    Ok(*first)
}

const VERSION: u8 = 2;
const MAX_SUITES: u8 = 32;
/// The extension with the encapsulation key.
const KEM_KEY: u16 = 0x0001;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kex(suites: &[u16]) -> Kex {
        Kex { bindings: 1, suites: suites.to_vec(), ephemeral: [7; 32], kem_key: None }
    }

    fn parse(frame: &[u8], from: Role) -> Result<Kex, Violation> {
        Kex::parse(&frame[1..], from)
    }

    #[test]
    fn layout() {
        let good = kex(&[1]).emit();
        assert_eq!(parse(&good, Role::Initiator), Ok(kex(&[1])));
        for cut in 1..good.len() {
            assert_eq!(parse(&good[..cut], Role::Initiator), Err(Violation::BadFrame), "{cut}");
        }
        let mut version = good.clone();
        version[1] = 3;
        let mut none = good;
        none[3] = 0;
        let many = kex(&[1; 33]).emit();
        for bad in [version, none, many] {
            assert_eq!(parse(&bad, Role::Responder), Err(Violation::BadFrame));
        }
        assert!(parse(&kex(&[1; 32]).emit(), Role::Responder).is_ok());
    }

    #[test]
    fn extensions_ascend_and_end_with_the_frame() {
        let with = |extensions: &[u8]| {
            let mut frame = kex(&[1]).emit();
            frame.extend_from_slice(extensions);
            parse(&frame, Role::Initiator).map(drop)
        };
        let bad = Err(Violation::BadFrame);
        assert_eq!(with(&[0xfa, 0xde, 0, 1, 7]), Ok(()));
        assert_eq!(with(&[0, 2, 0, 0, 0, 3, 0, 0]), Ok(()));
        assert_eq!(with(&[0, 3, 0, 0, 0, 2, 0, 0]), bad);
        assert_eq!(with(&[0, 2, 0, 0, 0, 2, 0, 0]), bad);
        assert_eq!(with(&[0, 2, 0, 1]), bad);
        assert_eq!(with(&[0, 2, 0]), bad);
        assert_eq!(with(&[0]), bad);
        assert_eq!(with(&[0, 1, 0, 0]), bad);
    }

    #[test]
    fn the_kem_key_comes_from_a_responder_that_offers_a_hybrid_suite() {
        let with = |suites: &[u16]| Kex { kem_key: Some(vec![9; 1184]), ..kex(suites) };
        let bad = Err(Violation::BadFrame);
        assert_eq!(parse(&with(&[0x0101]).emit(), Role::Responder), Ok(with(&[0x0101])));
        assert_eq!(parse(&with(&[0x0101]).emit(), Role::Initiator), bad);
        assert_eq!(parse(&with(&[0x0001]).emit(), Role::Responder), bad);
        assert_eq!(parse(&kex(&[0x0102]).emit(), Role::Responder), bad);
        assert_eq!(parse(&kex(&[0x0102]).emit(), Role::Initiator), Ok(kex(&[0x0102])));
    }

    proptest! {
        #[test]
        fn round_trip(
            bindings: u8,
            suites in prop::collection::vec(3..0x100_u16, 1..=32),
            ephemeral: [u8; 32],
        ) {
            let kex = Kex { bindings, suites, ephemeral, kem_key: None };
            prop_assert_eq!(parse(&kex.emit(), Role::Initiator), Ok(kex));
        }

        #[test]
        fn anything_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = Kex::parse(&bytes, Role::Initiator);
            _ = Kex::parse(&bytes, Role::Responder);
        }
    }
}
