//! One connection of an endpoint.

use alloc::collections::{BTreeSet, VecDeque};
use core::fmt::Debug;

use super::Output;
use super::memory::{Account, Room};
use crate::crypto::PublicKey;
use crate::id::{ConnectionId, DialId};
use crate::owed::{Owed, Waiting};
use crate::prelude::*;
use crate::session::{Action, Session};
use crate::time::Instant;
use crate::wire::StreamName;

/// A connection, from its dial until nothing is left of it.
#[derive(Debug)]
pub(super) struct Connection<L> {
    /// The dial that is to be answered.
    pub(super) dial: Option<DialId>,
    /// It came in, and its peer must be known by then.
    pub(super) unknown_until: Option<Instant>,
    /// When it was asked for.
    pub(super) since: Instant,
    /// Until its end was reported.
    pub(super) session: Option<Box<Session>>,
    /// Until the transport's connection is closed.
    pub(super) link: Option<L>,
    /// What the peer is charged for it.
    pub(super) charged: Option<(PublicKey, usize)>,
    /// When it is due, as in the endpoint's timers.
    pub(super) due: Option<Instant>,
    /// It is in the endpoint's queue of those to be carried out.
    pub(super) is_touched: bool,
    /// It is in the endpoint's queue of those with events.
    pub(super) is_eventful: bool,
    /// Handshake messages wait.
    pub(super) has_handshake: bool,
    /// Streams with messages that the application has paused.
    pub(super) parked: BTreeSet<StreamName>,
    /// The application was told that its session is Established.
    pub(super) was_established: bool,
    /// The oldest that the driver owed when the session ended.
    pub(super) blamed: Option<Owed>,
}

impl<L> Connection<L> {
    pub(super) const fn new(dial: Option<DialId>, since: Instant) -> Self {
        Self {
            dial,
            unknown_until: None,
            since,
            session: None,
            link: None,
            charged: None,
            due: None,
            is_touched: false,
            is_eventful: false,
            has_handshake: false,
            parked: BTreeSet::new(),
            was_established: false,
            blamed: None,
        }
    }
}

/// How the substreams of a session travel.
#[expect(unnameable_types, reason = "nobody else implements it")]
pub trait Link: Debug {
    /// What is asked of the driver.
    type Output;

    /// Carries out an action about a substream.
    fn act(&mut self, session: &mut Session, action: Action, cx: &mut Cx<'_, Self::Output>);

    /// Moves bytes out. Returns whether any moved, or the session has heard something.
    fn pump(&mut self, session: Option<&mut Session>, cx: &mut Cx<'_, Self::Output>) -> bool;

    /// The session is over.
    fn close(&mut self, now: Instant, code: u64);

    /// Returns the code to close the connection with, once it is to be closed.
    fn closes(&self) -> Option<u64>;

    /// Does what is due.
    fn handle_timeout(&mut self, now: Instant);

    /// Returns when it is due next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Returns the bytes that are reserved for messages that are being received.
    fn held(&self) -> usize;

    /// True if it waits for room in the account.
    fn is_starved(&self) -> bool;

    /// Calls `each` with what the driver has not answered, and since when.
    fn owed(&self, each: &mut dyn FnMut(Waiting, Instant));
}

/// What a link is lent.
#[derive(Debug)]
#[expect(unnameable_types, reason = "part of a trait that nobody else implements")]
pub struct Cx<'a, O> {
    pub(super) id: ConnectionId,
    pub(super) now: Instant,
    pub(super) room: Room,
    pub(super) outputs: &'a mut VecDeque<Output<O>>,
}

impl<'a, O> Cx<'a, O> {
    pub(super) fn new(
        id: ConnectionId,
        now: Instant,
        session: Option<&Session>,
        account: &Account,
        outputs: &'a mut VecDeque<Output<O>>,
    ) -> Self {
        let is_established = session.is_some_and(Session::is_established);
        let room = account.room(session.map(Session::peer), is_established);
        Self { id, now, room, outputs }
    }

    pub(super) fn ask(&mut self, what: O) {
        self.outputs.push_back(Output::Transport(what));
    }
}
