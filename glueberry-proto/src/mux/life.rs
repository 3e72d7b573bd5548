//! How far a connection of the mux is, and its clock.

use super::config::Config;
use super::error::Closed;
use crate::time::Instant;

/// From the start to the end of a connection.
#[derive(Debug)]
pub(super) struct Life {
    /// The latest time that an input has brought.
    now: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The peer's first frame is awaited.
    Greeting { until: Instant },
    /// Silence until `quiet` is worth a ping, and after one until `pinged` the end.
    Open { quiet: Instant, pinged: Option<Instant> },
    /// Closed here; the peer is to confirm that it has read everything.
    Closing { why: Closed, until: Instant },
    /// Nothing more is to be read.
    Done { why: Closed },
}

/// What has become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    None,
    Ping,
    TimedOut,
}

impl Life {
    pub(super) fn new(now: Instant, config: &Config) -> Self {
        Self { now, state: State::Greeting { until: now + config.ping_timeout } }
    }

    pub(super) const fn closed(&self) -> Option<Closed> {
        match self.state {
            State::Greeting { .. } | State::Open { .. } => None,
            State::Closing { why, .. } | State::Done { why } => Some(why),
        }
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.state, State::Done { .. })
    }

    /// The peer has said hello.
    pub(super) fn open(&mut self, config: &Config) {
        if let State::Greeting { .. } = self.state {
            self.state = State::Open { quiet: self.alarm(config), pinged: None };
        }
    }

    /// Something has arrived.
    pub(super) fn heard(&mut self, config: &Config) {
        let alarm = self.alarm(config);
        if let State::Open { quiet, pinged } = &mut self.state {
            (*quiet, *pinged) = (alarm, None);
        }
    }

    /// Closes the connection from here. Returns false if it was closed before.
    pub(super) fn close(&mut self, why: Closed, config: &Config) -> bool {
        let is_first = self.closed().is_none();
        if is_first {
            self.state = State::Closing { why, until: self.now + config.close_timeout };
        }
        is_first
    }

    /// The peer has closed the connection. Returns true if it is to be answered.
    pub(super) fn peer_closed(&mut self, code: u32) -> bool {
        let before = self.closed();
        self.state = State::Done { why: before.unwrap_or(Closed::ByPeer { code }) };
        before.is_none()
    }

    pub(super) fn pipe_ended(&mut self) {
        self.state = State::Done { why: self.closed().unwrap_or(Closed::PipeEnded) };
    }

    pub(super) fn pass(&mut self, now: Instant, config: &Config) -> Step {
        self.now = self.now.max(now);
        let now = self.now;
        match &mut self.state {
            State::Greeting { until } if *until <= now => {
                self.state = State::Done { why: Closed::TimedOut };
                Step::TimedOut
            }
            State::Open { pinged: Some(until), .. } if *until <= now => {
                self.state = State::Done { why: Closed::TimedOut };
                Step::TimedOut
            }
            State::Open { quiet, pinged: pinged @ None }
                if config.ping_after.is_some() && *quiet <= now =>
            {
                *pinged = Some(now + config.ping_timeout);
                Step::Ping
            }
            State::Closing { why, until } if *until <= now => {
                self.state = State::Done { why: *why };
                Step::TimedOut
            }
            _ => Step::None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Greeting { until } | State::Closing { until, .. } => Some(until),
            State::Open { pinged: Some(until), .. } => Some(until),
            State::Open { quiet, pinged: None } => Some(quiet),
            State::Done { .. } => None,
        }
        .filter(|at| *at != NEVER)
    }

    /// Returns when silence becomes worth a ping.
    fn alarm(&self, config: &Config) -> Instant {
        config.ping_after.map_or(NEVER, |after| self.now + after)
    }
}

const NEVER: Instant = Instant::from_micros(u64::MAX);
