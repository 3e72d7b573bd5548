//! Bugs of the past that can be made to live again, so that whoever looks for them can be seen to
//! find them.

use crate::config::Config;

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A bug to revive. Only a build with the feature `testing` can choose one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[cfg_attr(
            not(feature = "testing"),
            expect(unreachable_pub, dead_code, reason = "public only in `testing`")
        )]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        #[cfg(feature = "testing")]
        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the name of the variant.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Returns the bug of a name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|bug| bug.name() == name)
            }
        }
    };
}

bugs! {
    /// Seals with a key of zeros.
    ZeroKey,
    /// Tells another state than a failed dial leads to.
    WrongState,
    /// Does not notice that a connection is lost.
    DeafToLoss,
    /// Resets both substreams when both sides open one of a name at once.
    BothReset,
    /// Lets a peer that has proven nothing announce a handshake message of any size.
    UnboundedHandshake,
    /// Takes any key for the peer's.
    AnyKey,
    /// Drops a message when its queue is full.
    DropWhenFull,
    /// Refuses a peer that dials while it is being dialled.
    MutualRefusal,
    /// Refuses a peer that dials again, though it may have been restarted.
    IgnoresRedial,
    /// Takes the end of a substream within a frame for a clean one.
    TruncationUnseen,
    /// Draws the same nonces again when a stream is opened again.
    NonceAgain,
    /// Opens the same record again.
    ReplayTaken,
    /// Lets the time for a handshake run on after it is over.
    TimerRunsOn,
    /// Never reads on after a full queue was emptied.
    NeverResumes,
    /// Lets a newcomer that has proven nothing take over from an Established session.
    Evicts,
    /// Delivers before the handshake is over.
    EarlyDelivery,
    /// Changes a state without telling.
    SilentChange,
    /// Does not give a dial up that nobody answers.
    EndlessDial,
    /// Does not tell that a full queue has drained.
    NeverWritable,
    /// Forgets the messages that were not sent when a session ends.
    ForgetsUnsent,
    /// Keeps counting a session that is over.
    LeaksSession,
    /// Counts no messages in doubt.
    NoDoubt,
    /// Takes the end of any session for that of the one that speaks for the peer.
    WrongSessionEnds,
    /// Goes on counting attempts after a session that has lasted.
    AttemptsGoOn,
    /// Does not cut off a peer that is banned.
    BanSparesSession,
    /// Starts more dials than are allowed.
    DialsUnbounded,
    /// Sends the rest of a message once more.
    SentTwice,
    /// Tells the end of a session twice.
    ClosedTwice,
    /// Delivers once more what a peer sends again because a substream broke.
    RepeatTaken,
    /// Does not tell the end of a session that was lost.
    EndUnsaid,
    /// Asks to be woken at a moment that has passed.
    WokenForNothing,
}

impl Config {
    /// Returns whether a bug lives.
    #[cfg(feature = "testing")]
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Returns whether a bug lives: none does.
    #[cfg(not(feature = "testing"))]
    #[expect(clippy::unused_self, reason = "the other build asks the configuration")]
    pub(crate) const fn has(&self, _: Bug) -> bool {
        false
    }
}
