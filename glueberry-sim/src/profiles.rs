//! Which wire profiles a host speaks.

use glueberry_proto::Profile;
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
