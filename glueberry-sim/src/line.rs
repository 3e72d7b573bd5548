//! One ordered pipe of bytes beneath a connection, cut into substreams by the core's mux.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::SubstreamId;
use glueberry_proto::mux::{self, Id};

use crate::link::{Line, Link};
use crate::plan::{NamingMode, Plan};
use crate::wake::Side;

impl Line {
    /// Returns the number by which the mux knows a substream.
    pub(crate) fn id_of(&self, pipe: usize) -> Option<Id> {
        self.substreams.iter().find(|(_, at)| **at == pipe).map(|(id, _)| *id)
    }
}

impl Link {
    /// Has the mux open a substream, now or when the peer's hello arrives. `None` if there is no mux.
    pub(crate) fn open_on_line(
        &mut self,
        at: usize,
    ) -> Option<(SubstreamId, Result<(), mux::OpenError>)> {
        let (pipe, line) = (&self.pipes[at], self.line.as_mut()?);
        let id = pipe.buffers[pipe.opener].as_ref()?.substream();
        let end = &mut line.ends[pipe.opener];
        let opened = end.mux.as_mut()?.open();
        match opened {
            Ok(number) => _ = line.substreams.insert(number, at),
            Err(mux::OpenError::NotReady) => end.opening.push_back(at),
            Err(_) => {}
        }
        Some((id, opened.map(drop)))
    }

    /// Takes the substreams that the peer's hello was awaited for.
    pub(crate) fn take_opening(&mut self, side: Side) -> VecDeque<usize> {
        self.line
            .as_mut()
            .map_or_else(VecDeque::new, |line| std::mem::take(&mut line.ends[side].opening))
    }

    /// Takes what has arrived first on the pipe.
    pub(crate) fn take_from_line(&mut self, side: Side, now: u64) -> Option<Bytes> {
        self.line.as_mut()?.towards[side].take(now)
    }

    /// Returns the substream that the mux knows by this number.
    pub(crate) fn substream_of(&self, id: Id) -> Option<usize> {
        self.line.as_ref()?.substreams.get(&id).copied()
    }
}

impl Plan {
    /// Returns whether connections can be one pipe each. Adversaries write to substreams.
    pub(crate) fn suits_pipe(&self) -> bool {
        self.net.naming == NamingMode::Preamble
            && self.mux().check().is_ok()
            && !self.hosts.iter().any(|host| host.is_adversary)
    }

    /// Returns the configuration of the mux of a pipe.
    pub(crate) fn mux(&self) -> mux::Config {
        let mut config = mux::Config::default();
        let there_and_back = 2 * self.longest_delay() + 1_000_000;
        config.max_substreams = self.limits.more.max_substreams.try_into().unwrap_or(u16::MAX);
        config.window = self.net.window.try_into().unwrap_or(u32::MAX);
        let all = config.window.saturating_mul(u32::from(config.max_substreams));
        config.connection_window = all.saturating_mul(2);
        config.max_frame = self.net.pipe.map_or(config.max_frame, |pipe| pipe.max_frame);
        // A pipe that is dead is found out before the network does it.
        let quarter = self.net.idle / 4;
        config.ping_after = Some(Duration::from_micros(quarter));
        config.ping_timeout = Duration::from_micros(quarter.max(2 * there_and_back));
        config.close_timeout = Duration::from_micros(there_and_back);
        config
    }

    /// Returns the bytes that a pipe holds in one direction.
    pub(crate) fn pipe_room(&self) -> usize {
        self.net.pipe.map_or(0, |pipe| pipe.holds)
    }
}
