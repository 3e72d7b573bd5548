//! Which wire profiles a host speaks, and how it pads.

use std::num::NonZeroU16;

use glueberry_proto::{Padding, Profile};
use serde::{Deserialize, Serialize};

/// Which wire profiles a host speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wires {
    Document,
    Go,
    Both,
    BothGoFirst,
    /// v2, and nothing else.
    V2,
    V2AndDocument,
    V2AndGo,
    All,
}

impl Wires {
    /// Returns them in the order in which a dialler offers them.
    pub(crate) const fn profiles(self) -> &'static [Profile] {
        use Profile::{V1, V1Go, V2};
        match self {
            Self::Document => &[V1],
            Self::Go => &[V1Go],
            Self::Both => &[V1, V1Go],
            Self::BothGoFirst => &[V1Go, V1],
            Self::V2 => &[V2],
            Self::V2AndDocument => &[V2, V1],
            Self::V2AndGo => &[V2, V1Go],
            Self::All => &[V2, V1, V1Go],
        }
    }
}

/// Returns the padding that a number stands for: Padmé for one, none for zero, or multiples of it.
pub(crate) const fn padding(of: u16) -> Padding {
    match NonZeroU16::new(of) {
        None => Padding::None,
        Some(NonZeroU16::MIN) => Padding::Padme,
        Some(of) => Padding::Multiple(of),
    }
}
