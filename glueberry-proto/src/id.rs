//! Identifiers. Every one is allocated by a machine, none by an adapter (rule C12).

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a number of a machine's counter.
            pub(crate) const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the number, for logs and maps of an adapter.
            pub const fn as_u64(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// One session of a node, counted by [`Node`](crate::Node).
    SessionId,
    "session-"
);
id!(
    /// One dial that [`Node`](crate::Node) has requested.
    DialId,
    "dial-"
);
id!(
    /// One connection of an [`Endpoint`](crate::endpoint::Endpoint), counted by it.
    ConnectionId,
    "connection-"
);
id!(
    /// One substream of a session, counted by its [`Session`](crate::Session).
    SubstreamId,
    "substream-"
);

/// Counts identifiers up from zero.
#[derive(Debug, Default)]
pub(crate) struct Counter(u64);

impl Counter {
    pub(crate) const fn next(&mut self) -> u64 {
        let number = self.0;
        self.0 = self.0.saturating_add(1);
        number
    }
}
