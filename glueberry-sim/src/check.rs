//! What must always hold, how often it was looked at, and the first time that it did not.

use std::fmt;

macro_rules! invariants {
    ($($name:ident $text:literal,)*) => {
        /// Something that must hold after every event, or at the end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Invariant {
            $(#[doc = $text] $name,)*
        }

        impl Invariant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Returns what must hold.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

invariants! {
    Order "What is delivered on a stream is what was accepted, in order, without repetition.",
    NoGhost "What is delivered was sent by this peer, in this session, on this stream.",
    Unaltered "What is delivered is byte for byte what was accepted.",
    NothingLost "On a connection that nothing has happened to, nothing is lost or interrupted.",
    Accounted "Each accepted message is delivered, unsent or in doubt when both sessions are over.",
    UnsentStays "What was given back as unsent is never delivered.",
    Gate "Nothing is delivered on a stream before this side is Established.",
    Transition "A peer's state only changes as the table of transitions allows.",
    History "A peer's state is the one that the last event reported.",
    OneSession "The Established session of a peer is the one that speaks for it, and the only one.",
    Direction "Node and session know which side has dialled.",
    Agree "Both sides come to keep the same of several sessions.",
    Superfluous "A session that does not speak for its peer ends in time.",
    Undisturbed "No other connection ends an Established session.",
    Offered "A session has a profile that both hosts have, and that is not below the floor.",
    Kept "Where one side of a session of v2 is Established, the other keeps it.",
    Confirmed "Nothing goes out on a stream of v2 before the peer has confirmed the keys.",
    SameKeys "Both sides of a session of v2 that is Established have the same secret and terms.",
    Settled "What the end of a session of v2 tells has not arrived, has not, and all else has.",
    NotEarly "What ends for lack of time has had its time.",
    OneClosed "A session tells its end once, and nothing after it.",
    Backoff "A peer is dialled again after the wait that belongs to the number of attempts.",
    Postponed "A dial that the application waits for makes way for no other, and none does in vain.",
    Attempts "A lost peer is dialled again as often as the policy allows, and no more.",
    Pruned "Only peers above the limit are pruned, those that have shown least first, and no protected one.",
    BanHolds "A banned peer is not dialled, connected or Established, not even after a restart.",
    BookSurvives "A book that was stored whole is read back whole.",
    Stored "What is to be stored at once is on the disk in time, and after shutdown all of it is.",
    StoredIsKnown "When nothing is to be stored, the disk has what is in memory.",
    DeadIsNoticed "A session whose connection is lost is over.",
    NonceOnce "No nonce is used twice with one key.",
    RealKey "Nothing is sealed with a key that was not agreed on.",
    KeysEnd "A session that is over has no keys.",
    Memory "A session holds no more bytes than its configuration allows.",
    FewDials "No more dials than allowed are under way.",
    FewSessions "No more sessions than allowed exist.",
    OneId "No id is given twice.",
    TimerAhead "A machine that was given the time asks to be woken later than that.",
    NoBusyLoop "Machines are not woken again and again for nothing.",
    Returns "A machine that is given an input comes back.",
    Answer "A command is accepted or refused as the state of things says.",
    Blame "Who keeps to the protocol is not said to have broken it.",
    AdversaryBlamed "Who breaks the protocol is found out.",
    RefusedForReason "A connection is refused only for a reason that holds.",
    Admitted "No connection is admitted that is to be refused.",
    Passing "No peer stays in a passing state beyond its time.",
    Converges "After the last fault every wanted pair becomes Established in time.",
    Released "After the last fault everything that an application has to say is accepted in time.",
    Arrives "What a living session has accepted arrives in time, and its accounts are empty then.",
    Hysteresis "A full queue accepts again, and says so, when it has drained to its low watermark.",
    Doubt "What the peer has acknowledged, or was never written, is not in doubt.",
    Repeated "What was just written to a substream that a Go node may reset goes out again.",
    Drains "A session that drains loses nothing unless its time is over, and takes no longer.",
    Perseveres "A stream that was agreed once is given up after as many attempts as are configured.",
    Granted "A session that speaks for its peer hears of it in time.",
    Sound "A node does not come into a state that it takes for impossible.",
    Freed "After shutdown nothing is left: no session, no dial, no timer.",
    Keeper "Of two sessions that are agreed, the one that the smaller key has dialled is chosen.",
    Cause "What a machine waits for can still come, and the time is the one that belongs to it.",
    Due "A machine wakes no later than what is due next.",
    Status "What a node says of a peer is what has become of it.",
    Told "What waits to be taken was told, and who has room reads on.",
    Counted "What a session says of its messages is what its transport has taken and acknowledged.",
    Heard "What is said in a handshake is heard in its order, and nothing of it is left out.",
    HandshakeEnds "A handshake that nothing disturbs comes to its end in time.",
    Application "What the application promises holds.",
    Repeats "The same seed gives the same run.",
}

/// The first thing that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// What should hold.
    pub invariant: Invariant,
    /// When, in microseconds.
    pub at: u64,
    /// On which host.
    pub host: usize,
    /// One fact.
    pub fact: String,
    /// And another that clashes with it.
    pub clash: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, host, fact, clash } = self;
        writeln!(f, "broken: {} ({})", invariant.text(), invariant.name())?;
        writeln!(f, "  on node {host} at {}.{:06} s", at / 1_000_000, at % 1_000_000)?;
        writeln!(f, "  fact:  {fact}")?;
        write!(f, "  clash: {clash}")
    }
}

/// Counts the checks of a run, and keeps the first violation.
#[derive(Debug)]
pub(crate) struct Checks {
    counts: Vec<u64>,
    first: Option<Violation>,
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; Invariant::ALL.len()], first: None }
    }

    /// Looks whether something holds; `facts` tells what clashes if it does not.
    pub(crate) fn hold(
        &mut self,
        invariant: Invariant,
        (at, host): (u64, usize),
        holds: bool,
        facts: impl FnOnce() -> (String, String),
    ) {
        self.counts[invariant.index()] += 1;
        if !holds && self.first.is_none() {
            let (fact, clash) = facts();
            self.first = Some(Violation { invariant, at, host, fact, clash });
        }
    }

    pub(crate) const fn violation(&self) -> Option<&Violation> {
        self.first.as_ref()
    }

    /// Returns how often each invariant was looked at.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }
}

impl Invariant {
    #[expect(clippy::as_conversions, reason = "there is no other way from an enum")]
    const fn index(self) -> usize {
        self as usize
    }
}
