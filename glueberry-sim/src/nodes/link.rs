//! A connection between two hosts, as each of its ends sees it.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;
use glueberry_proto::ConnectionLost;

use super::network::Life;
use super::trace::HAS_READ;
use crate::rng::u64_of;

/// What travels over a connection.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Open(u64),
    Data(u64, Bytes),
    /// The end of a half: cleanly, or else given up.
    End(u64, HalfEnd),
    /// Nothing more is read of that half.
    Stop(u64),
    /// That much of a half was read.
    Read(u64, usize),
    /// All of a half has arrived.
    Received(u64),
    Close(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HalfEnd {
    Finished,
    Reset,
}

impl Packet {
    /// Returns the substream that it is of.
    pub(super) const fn pipe(&self) -> Option<u64> {
        match self {
            Self::Open(pipe)
            | Self::Data(pipe, _)
            | Self::End(pipe, _)
            | Self::Stop(pipe)
            | Self::Read(pipe, _)
            | Self::Received(pipe) => Some(*pipe),
            Self::Close(_) => None,
        }
    }

    /// Returns its name and a number, for people.
    pub(super) fn note(&self) -> (&'static str, u64) {
        match self {
            Self::Open(_) => ("opens a substream", 0),
            Self::Data(_, bytes) => ("bytes", u64_of(bytes.len())),
            Self::End(_, HalfEnd::Finished) => ("ends a half", 0),
            Self::End(_, HalfEnd::Reset) => ("gives a half up", 0),
            Self::Stop(_) => ("reads no more", 0),
            Self::Read(_, bytes) => (HAS_READ, u64_of(*bytes)),
            Self::Received(_) => ("has all of a half", 0),
            Self::Close(code) => ("closes with code", *code),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    /// Whose its ends are: the dialler's first.
    pub(super) lives: [Life; 2],
    pub(super) ends: [End; 2],
    pub(super) last_pipe: u64,
    /// What both ends derive of their handshake.
    pub(super) binding: [u8; 32],
    /// Nothing arrives any more.
    pub(super) is_cut: bool,
}

/// What has arrived at one end.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) pipes: BTreeMap<u64, Pipe>,
    pub(super) accepted: VecDeque<u64>,
    lost: Option<ConnectionLost>,
    is_lost: bool,
    /// Its connection was dropped.
    pub(super) is_dropped: bool,
    pub(super) waker: Option<Waker>,
    /// When the last packet of each substream that was sent from here arrives: they stay in order.
    pub(super) arrivals: BTreeMap<u64, u64>,
}

/// A substream, as one end sees it.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) chunks: VecDeque<Bytes>,
    pub(super) end: Option<HalfEnd>,
    /// The other end reads no more.
    pub(super) is_stopped: bool,
    /// Bytes written here that the other end has not read.
    pub(super) unread: usize,
    pub(super) has_ended: bool,
    pub(super) is_received: bool,
}

impl Link {
    pub(super) fn new(lives: [Life; 2], binding: [u8; 32]) -> Self {
        let ends = [End::default(), End::default()];
        Self { lives, ends, last_pipe: 0, binding, is_cut: false }
    }

    /// Hands a packet to an end. Returns what that answers at once.
    pub(super) fn deliver(&mut self, side: usize, packet: Packet) -> Option<Packet> {
        let end = &mut self.ends[side];
        if end.is_lost || end.is_dropped || self.is_cut {
            return None;
        }
        match packet {
            Packet::Open(pipe) => {
                end.pipes.insert(pipe, Pipe::default());
                end.accepted.push_back(pipe);
            }
            Packet::Close(code) => end.lose(ConnectionLost::ClosedByPeer { code }),
            Packet::Data(pipe, bytes) => {
                if let Some(pipe) = end.pipes.get_mut(&pipe) {
                    pipe.chunks.push_back(bytes);
                }
            }
            Packet::End(pipe, how) => {
                if let Some(pipe) = end.pipes.get_mut(&pipe) {
                    pipe.end = Some(how);
                }
                // A transport acknowledges also what is not read.
                return (how == HalfEnd::Finished).then_some(Packet::Received(pipe));
            }
            Packet::Stop(pipe) => {
                if let Some(pipe) = end.pipes.get_mut(&pipe) {
                    pipe.is_stopped = true;
                }
            }
            Packet::Read(pipe, bytes) => {
                if let Some(pipe) = end.pipes.get_mut(&pipe) {
                    pipe.unread = pipe.unread.saturating_sub(bytes);
                }
            }
            Packet::Received(pipe) => {
                if let Some(pipe) = end.pipes.get_mut(&pipe) {
                    pipe.is_received = true;
                }
            }
        }
        None
    }

    /// Returns whether both ends were dropped.
    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.is_dropped)
    }
}

impl End {
    /// It is lost, if it was not before.
    pub(super) fn lose(&mut self, why: ConnectionLost) {
        if !std::mem::replace(&mut self.is_lost, true) {
            self.lost = Some(why);
        }
    }

    /// Returns why it was lost, once.
    pub(super) const fn take_lost(&mut self) -> Option<ConnectionLost> {
        self.lost.take()
    }

    pub(super) const fn is_lost(&self) -> bool {
        self.is_lost
    }
}

/// Bytes of one half of a substream that may be under way or unread.
pub(super) const WINDOW: usize = 64 * 1024;
