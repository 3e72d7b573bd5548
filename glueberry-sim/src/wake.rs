//! What is due at a moment, and which machine has outputs to be looked at.

use glueberry_proto::DialId;

use crate::attack::Attack;

/// One of the two ends of a connection: 0 is the one that dialled.
pub(crate) type Side = usize;

/// Something that is due at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A step of the plan.
    Step(usize),
    /// What a step did comes to its end.
    Heal(usize),
    /// A step does once more, of so many times.
    Again(usize, u64),
    Restart(usize),
    /// It is looked whether everything has ended that should have.
    Scan,
    // A host's own.
    Node(usize, u64),
    Mail(usize, u64),
    Events(usize, u64),
    Retry(usize, u64, usize),
    Flow(usize, usize),
    Dial(usize, u64, DialId),
    Saved(usize, u64),
    Program(usize, u64, u64),
    Failed(usize, u64),
    // One end of a connection.
    SessionInbox(usize, Side),
    Session(usize, Side),
    Take(usize, Side),
    /// The application goes on with the handshake.
    Greet(usize, Side),
    /// The application takes the handshake messages that it was told of.
    Listen(usize, Side),
    Arrive(usize, Side),
    Lose(usize, Side),
    Retire(usize, Side),
    /// A connection may have been silent for too long, since this moment.
    Idle(usize, u64),
    // A pipe that substreams share.
    /// Bytes may leave.
    Pump(usize, Side),
    /// Bytes arrive.
    Hear(usize, Side),
    /// The mux wakes.
    Line(usize, Side),
    // A substream.
    Offer(usize, usize),
    Answer(usize, usize, bool),
    Write(usize, usize, Side),
    Read(usize, usize, Side),
    Stopped(usize, usize, Side),
    Acknowledge(usize, usize, Side),
    /// An adversary goes on with its attack.
    Script(usize, Side, u64),
    /// An adversary goes on with a attack that takes several connections, so many times more.
    AttackAgain(usize, usize, Attack, u64),
}

/// A machine that was given an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Node(usize),
    Session(usize, Side),
}
