//! What happened: every input and output as a small value, hashed as it comes.

use std::collections::VecDeque;

use crate::rng::{mix, u64_of};

/// One thing that happened, without any text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// In microseconds.
    pub(crate) at: u64,
    pub(crate) host: usize,
    /// The connection that it is about, or `NOWHERE`.
    pub(crate) link: usize,
    pub(crate) what: Kind,
    pub(crate) a: u64,
    pub(crate) b: u64,
}

macro_rules! kinds {
    ($($name:ident $text:literal,)*) => {
        /// What a note is about; its text says what the two numbers are.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind {
            $($name,)*
        }

        impl Kind {
            /// Returns the name for files.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Returns a text in which `{a}` and `{b}` stand for the numbers.
            pub(crate) const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns the number that goes into the hash.
            #[expect(clippy::as_conversions, reason = "there is no other way from an enum")]
            const fn code(self) -> u64 {
                self as u64
            }
        }
    };
}

kinds! {
    Start "starts, for the {a}. time",
    Crash "is killed",
    Fault "fault: {a}",
    AddPeer "learns the address of {a}",
    Forget "forgets the address of {a}: {b}",
    Saved "disk answers: {a}",
    Book "has read its book of {a} bytes",
    Ban "bans {a}: {b}",
    Unban "lifts the ban of {a}: {b}",
    Wall "gets the wall clock",
    Connect "connects to {a}: {b}",
    Disconnect "disconnects {a}",
    Cancel "gives up reconnecting to {a}: {b}",
    Housekeeping "stores its book, protects {a}",
    Timer "timer {a} is due",
    Shutdown "shuts down",
    Dial "dials {a} (dial {b})",
    CancelDial "gives up dial {a}",
    DialFailed "dial {a} has failed",
    Connection "gets a connection with {a}: {b}",
    SessionMessage "node gets a message of a session",
    Gone "session is gone",
    NodeTimer "node wakes",
    State "peer {a} is now {b}",
    Command "command to the session: {a}, {b}",
    Send "sends message {a}: {b}",
    NodeMessage "session gets a message of its node",
    Opened "substream {a} is open",
    OpenFailed "substream {a} could not be opened",
    Accepted "substream {a} is accepted",
    Data "substream {a} brings bytes (digest {b})",
    End "substream {a} ends ({b})",
    Acknowledged "substream {a} is acknowledged",
    Lost "connection is lost",
    SessionTimer "session wakes",
    Write "substream {a} takes bytes (digest {b})",
    Finish "substream {a} is to finish",
    Reset "substream {a} is reset",
    Open "substream {a} is to be opened",
    Close "connection is closed with code {a}",
    Event "session reports {a}",
    HandshakeMessage "gets handshake message {a}",
    Received "receives message {a}",
    Closed "session is over: {a} unsent, {b} in doubt",
    Piped "pipe takes bytes (digest {a})",
}

/// The trace of a run: its hash, what came last, and all of it if that is asked for.
#[derive(Debug)]
pub(crate) struct Trace {
    lanes: [u64; 2],
    count: u64,
    latest: Vec<VecDeque<Note>>,
    all: Option<Vec<Note>>,
}

impl Trace {
    pub(crate) fn new(hosts: usize, keeps_all: bool) -> Self {
        Self {
            lanes: LANES,
            count: 0,
            latest: vec![VecDeque::with_capacity(LATEST); hosts],
            all: keeps_all.then(Vec::new),
        }
    }

    pub(crate) fn note(&mut self, note: Note) {
        let word = u64_of(note.host) << 56 ^ u64_of(note.link) << 24 ^ note.what.code();
        self.count += 1;
        for (lane, odd) in self.lanes.iter_mut().zip(ODD) {
            for disconnect in [note.at, word, note.a, note.b] {
                *lane = (*lane ^ disconnect).wrapping_mul(odd).rotate_left(29);
            }
        }
        if let Some(latest) = self.latest.get_mut(note.host) {
            if latest.len() == LATEST {
                latest.pop_front();
            }
            latest.push_back(note);
        }
        if let Some(all) = &mut self.all {
            all.push(note);
        }
    }

    /// Returns the hash of all that happened so far.
    pub(crate) fn hash(&self) -> u128 {
        let [a, b] = self.lanes;
        u128::from(mix(a ^ self.count)) << 64 | u128::from(mix(b))
    }

    /// Returns what happened last on a host.
    pub(crate) fn latest(&self, host: usize) -> impl Iterator<Item = &Note> {
        self.latest.get(host).into_iter().flatten()
    }

    /// Returns all that happened, if it was kept.
    pub(crate) fn all(&self) -> &[Note] {
        self.all.as_deref().unwrap_or_default()
    }
}

/// Returns a number that represents bytes; different ones for different bytes, unless somebody
/// searches for a clash.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hash = u64_of(bytes.len()) ^ LANES[0];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(ODD[0]).rotate_left(31);
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(ODD[1]).rotate_left(31);
    }
    hash
}

/// The link of a note that is about none.
pub(crate) const NOWHERE: usize = 0xffff;
/// Notes kept per host.
const LATEST: usize = 40;
const LANES: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
const ODD: [u64; 2] = [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53];
