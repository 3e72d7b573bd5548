//! What an Established session gives: to its application, to its node, and to events.

use crate::v2::Suite;
use crate::wire::Profile;

/// What an Established session gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The wire profile.
    pub profile: Profile,
    /// The cipher suite that was agreed on; `None` if the profile has only one.
    pub suite: Option<Suite>,
    /// True if what was sent stays secret when an identity's secret is stolen later, whatever the
    /// transport does.
    pub is_forward_secret: bool,
    /// True if what was sent stays secret from a quantum computer, whatever the transport does.
    pub is_post_quantum: bool,
    /// True if the session is tied to the connection below it: both sides are ends of one TLS
    /// connection.
    pub is_bound: bool,
}
