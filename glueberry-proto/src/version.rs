//! The version that nodes may announce to each other, and which versions are compatible.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

/// A version of Glueberry: three numbers, ordered by the first that differs.
///
/// Applications announce it, never the core; a [`greeting`](crate::greeting) can do it for them. It is
/// independent of the wire profile, which each session negotiates by itself.
///
/// ```
/// use glueberry_proto::ProtocolVersion;
///
/// let older: ProtocolVersion = "1.0.11".parse()?;
/// assert!(ProtocolVersion::CURRENT.is_newer_than(older));
/// // Both sides get the same answer, so neither waits for a peer that has left.
/// assert!(older.is_compatible_with(ProtocolVersion::CURRENT));
/// assert!(ProtocolVersion::CURRENT.is_compatible_with(older));
/// assert!(!older.is_compatible_with("2.0.0".parse()?));
/// # Ok::<(), glueberry_proto::VersionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion {
    // In this order, by which versions compare.
    major: u8,
    minor: u8,
    patch: u8,
}

impl ProtocolVersion {
    /// The version that this crate announces: that of the architecture document.
    pub const CURRENT: Self = Self::new(1, 2, 9);

    /// Creates a version from its three numbers.
    pub const fn new(major: u8, minor: u8, patch: u8) -> Self {
        Self { major, minor, patch }
    }

    /// Returns the first number, which both sides must share.
    pub const fn major(self) -> u8 {
        self.major
    }

    /// Returns the second number, which grows with features.
    pub const fn minor(self) -> u8 {
        self.minor
    }

    /// Returns the third number, which grows with corrections.
    pub const fn patch(self) -> u8 {
        self.patch
    }

    /// True if the first numbers are the same.
    ///
    /// The answer doesn't depend on which of the two asks. (Go nodes refuse a newer minor version,
    /// which accepts them, so that one side waits in vain.)
    pub const fn is_compatible_with(self, other: Self) -> bool {
        self.major == other.major
    }

    /// True if this version came after the other.
    pub fn is_newer_than(self, other: Self) -> bool {
        self > other
    }

    /// Parses a version from arbitrary bytes.
    pub(crate) fn from_ascii(text: &[u8]) -> Result<Self, VersionError> {
        let mut parts = text.split(|byte| *byte == b'.');
        let numbers = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(major), Some(minor), Some(patch), None) = numbers else {
            let got = text.split(|byte| *byte == b'.').count();
            return Err(VersionError::Parts { got });
        };
        Ok(Self::new(number(major)?, number(minor)?, number(patch)?))
    }
}

/// Parses exactly the form that [`Display`](fmt::Display) writes.
impl FromStr for ProtocolVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::from_ascii(text.as_bytes())
    }
}

/// Writes the three numbers with dots between them, such as `1.2.9`.
impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why a text is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VersionError {
    /// There are not three numbers with dots between them.
    #[error("version has {got} parts instead of three")]
    Parts {
        /// How many parts there are, separated by dots.
        got: usize,
    },
    /// A part is empty or is not made of decimal digits.
    #[error("version is not made of three numbers")]
    NotANumber,
    /// A number begins with a zero and is not zero.
    #[error("version holds a number with a leading zero")]
    LeadingZero,
    /// A number is greater than 255.
    #[error("version holds a number above 255")]
    TooLarge,
}

fn number(part: &[u8]) -> Result<u8, VersionError> {
    if part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
        return Err(VersionError::NotANumber);
    }
    if part.len() > 1 && part.starts_with(b"0") {
        return Err(VersionError::LeadingZero);
    }
    let value = part.iter().try_fold(0_u8, |value, digit| {
        value.checked_mul(10).and_then(|tens| tens.checked_add(digit - b'0'))
    });
    value.ok_or(VersionError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<ProtocolVersion, VersionError> {
        text.parse()
    }

    #[test]
    fn current_is_the_documents() {
        assert_eq!(ProtocolVersion::CURRENT.to_string(), "1.2.9");
    }

    #[test]
    fn three_decimal_numbers_are_read() {
        for (text, major, minor, patch) in
            [("0.0.0", 0, 0, 0), ("1.2.9", 1, 2, 9), ("255.10.100", 255, 10, 100)]
        {
            let version = parse(text).unwrap();
            assert_eq!((version.major(), version.minor(), version.patch()), (major, minor, patch));
            assert_eq!(version.to_string(), text);
        }
    }

    #[test]
    fn each_violation_has_its_error() {
        use VersionError::{LeadingZero, NotANumber, Parts, TooLarge};
        let cases = [
            ("", Parts { got: 1 }),
            ("1", Parts { got: 1 }),
            ("1.2", Parts { got: 2 }),
            ("1.2.3.4", Parts { got: 4 }),
            ("1.2.3.", Parts { got: 4 }),
            ("1..3", NotANumber),
            (".2.3", NotANumber),
            ("1.2.", NotANumber),
            ("v1.2.3", NotANumber),
            ("+1.2.3", NotANumber),
            ("1.-2.3", NotANumber),
            (" 1.2.3", NotANumber),
            ("1. 2.3", NotANumber),
            ("1.2.3x", NotANumber),
            ("1.2.3\n", NotANumber),
            ("1.2.٣", NotANumber),
            ("01.2.3", LeadingZero),
            ("1.00.3", LeadingZero),
            ("1.2.09", LeadingZero),
            ("256.0.0", TooLarge),
            ("1.2.999999999999999999999999", TooLarge),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_first_number_decides_compatibility() {
        let cases = [
            ("1.2.9", "1.2.9", true),
            ("1.0.0", "1.2.0", true),
            ("1.2.0", "1.2.255", true),
            ("1.2.9", "2.2.9", false),
            ("0.9.0", "1.0.0", false),
        ];
        for (one, other, expected) in cases {
            let (one, other) = (parse(one).unwrap(), parse(other).unwrap());
            assert_eq!(one.is_compatible_with(other), expected, "{one} and {other}");
            assert_eq!(other.is_compatible_with(one), expected, "{other} and {one}");
        }
    }

    #[test]
    fn the_first_number_that_differs_decides_which_is_newer() {
        let ascending = ["0.0.0", "0.0.1", "0.1.0", "0.255.255", "1.0.0", "1.2.9", "1.10.0"];
        for pair in ascending.windows(2) {
            let (older, newer) = (parse(pair[0]).unwrap(), parse(pair[1]).unwrap());
            assert!(newer.is_newer_than(older), "{newer} after {older}");
            assert!(!older.is_newer_than(newer));
            assert!(!newer.is_newer_than(newer));
        }
    }

    fn versions() -> impl Strategy<Value = ProtocolVersion> {
        any::<(u8, u8, u8)>().prop_map(|(a, b, c)| ProtocolVersion::new(a, b, c))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(version in versions()) {
            prop_assert_eq!(parse(&version.to_string()), Ok(version));
        }

        /// One version, one text: what is read at all is written again.
        #[test]
        fn what_is_read_is_written(text in "([0-9]{0,4}|.)(\\.([0-9]{0,4}|.)){0,4}") {
            if let Ok(version) = parse(&text) {
                prop_assert_eq!(version.to_string(), text);
            }
        }

        #[test]
        fn anything_may_be_read(text in any::<Vec<u8>>()) {
            if let Ok(version) = ProtocolVersion::from_ascii(&text) {
                prop_assert_eq!(version.to_string().into_bytes(), text);
            }
        }

        #[test]
        fn both_sides_agree(one in versions(), other in versions()) {
            prop_assert_eq!(one.is_compatible_with(other), other.is_compatible_with(one));
            prop_assert_eq!(one.is_compatible_with(other), one.major() == other.major());
            let newer = [one.is_newer_than(other), other.is_newer_than(one)];
            prop_assert_eq!(newer.iter().filter(|newer| **newer).count(), usize::from(one != other));
        }
    }
}
