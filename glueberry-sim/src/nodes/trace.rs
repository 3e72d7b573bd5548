//! What has happened in a run: all of it as a hash, the last of it as text.

use std::collections::VecDeque;

use crate::rng::{mix, u64_of};

/// Something that happened. Numbers are those of hosts, unless something else is said.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// A task of a host had a turn.
    Turn(u64, usize),
    Dial(usize, usize),
    /// From one host to another, what, and a number that goes with it.
    Packet(usize, usize, &'static str, u64),
    Lost(usize, usize),
    Start(usize),
    Kill(usize),
    Block(usize, usize),
    Unblock(usize, usize),
    Cut(usize, usize),
    /// A host says something.
    Said(usize, String),
}

#[derive(Default)]
pub(super) struct Trace {
    hash: u64,
    latest: VecDeque<(u64, Note)>,
    /// Notes of each kind that is counted.
    pub(super) packets: u64,
    pub(super) turns: u64,
    pub(super) faults: u64,
}

impl Trace {
    pub(super) fn add(&mut self, at: u64, note: Note) {
        for part in [at, note.code()].into_iter().chain(note.numbers()) {
            self.hash = mix(self.hash ^ part);
        }
        match &note {
            Note::Turn(..) => {
                self.turns += 1;
                return;
            }
            Note::Packet(_, _, what, _) => {
                self.packets += 1;
                // They would hide what the rest is about.
                if *what == HAS_READ {
                    return;
                }
            }
            Note::Kill(_) | Note::Block(..) | Note::Cut(..) => self.faults += 1,
            _ => {}
        }
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back((at, note));
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the last of what has happened, a line each.
    pub(super) fn latest(&self, names: &[String]) -> Vec<String> {
        let line = |(at, note): &(u64, Note)| {
            let seconds = (at / 1_000_000, at % 1_000_000);
            format!("{:>5}.{:06} {}", seconds.0, seconds.1, note.text(names))
        };
        self.latest.iter().map(line).collect()
    }
}

impl Note {
    const fn code(&self) -> u64 {
        match self {
            Self::Turn(..) => 1,
            Self::Dial(..) => 2,
            Self::Packet(..) => 3,
            Self::Lost(..) => 4,
            Self::Start(_) => 5,
            Self::Kill(_) => 6,
            Self::Block(..) => 7,
            Self::Unblock(..) => 8,
            Self::Cut(..) => 9,
            Self::Said(..) => 10,
        }
    }

    fn numbers(&self) -> [u64; 3] {
        match self {
            Self::Turn(task, host) => [*task, u64_of(*host), 0],
            Self::Packet(from, to, what, number) => {
                [u64_of(*from) << 32 | u64_of(*to), text_hash(what), *number]
            }
            Self::Dial(one, other)
            | Self::Lost(one, other)
            | Self::Block(one, other)
            | Self::Unblock(one, other)
            | Self::Cut(one, other) => [u64_of(*one), u64_of(*other), 0],
            Self::Start(host) | Self::Kill(host) => [u64_of(*host), 0, 0],
            Self::Said(host, text) => [u64_of(*host), text_hash(text), 0],
        }
    }

    fn text(&self, names: &[String]) -> String {
        let name = |host: &usize| names.get(*host).map_or("the script", String::as_str);
        match self {
            Self::Turn(task, host) => format!("{}: task {task}", name(host)),
            Self::Dial(from, to) => format!("{} dials {}", name(from), name(to)),
            Self::Packet(from, to, what, 0) => format!("{} to {}: {what}", name(from), name(to)),
            Self::Packet(from, to, what, number) => {
                format!("{} to {}: {what} {number}", name(from), name(to))
            }
            Self::Lost(host, peer) => format!("{} loses {}", name(host), name(peer)),
            Self::Start(host) => format!("{} starts", name(host)),
            Self::Kill(host) => format!("{} is killed", name(host)),
            Self::Block(from, to) => format!("nothing passes from {} to {}", name(from), name(to)),
            Self::Unblock(from, to) => format!("{} reaches {} again", name(from), name(to)),
            Self::Cut(one, other) => {
                format!("connections of {} and {} break", name(one), name(other))
            }
            Self::Said(host, text) => format!("{}: {text}", name(host)),
        }
    }
}

fn text_hash(text: &str) -> u64 {
    text.bytes().fold(u64_of(text.len()), |hash, byte| mix(hash ^ u64::from(byte)))
}

/// What a packet is called that only makes room for more.
pub(super) const HAS_READ: &str = "has read";

/// How many lines a failure shows.
const LATEST: usize = 60;
