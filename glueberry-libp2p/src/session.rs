//! A session inside a connection handler: moves its bytes, and asks for what only the swarm can do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Context;

use glueberry_proto::{
    Action, ConnectionLost, Instant, OpenError, ProtocolId, SessionId, SubstreamId,
};
use glueberry_tokio::adapter::{SessionDriver, Shared};
use glueberry_tokio::runtime::Timer;

use crate::settings::Settings;
use crate::silence::Silence;
use crate::substream::{Order, Scratch, Substream};
use crate::upgrade::Negotiated;

/// One session and its substreams.
#[derive(Debug)]
pub(crate) struct SwarmSession {
    driver: SessionDriver,
    shared: Arc<Shared>,
    order: Order,
    substreams: BTreeMap<SubstreamId, Substream>,
    /// Substreams that are being opened and that the session still wants.
    opening: BTreeSet<SubstreamId>,
    scratch: Scratch,
    silence: Silence,
    timer: Box<dyn Timer>,
}

/// What a session wants of its handler.
#[derive(Debug)]
pub(crate) enum Want {
    /// A substream on one of these protocols.
    Open(Opening, Vec<ProtocolId>),
    /// Nothing more, ever.
    Over,
}

/// Which substream is being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The session: another may follow on the same connection.
    pub(crate) session: SessionId,
    /// The substream, or none for a probe.
    pub(crate) substream: Option<SubstreamId>,
}

impl SwarmSession {
    pub(crate) fn new(
        driver: SessionDriver,
        shared: Arc<Shared>,
        order: Order,
        settings: &Settings,
    ) -> Self {
        let timer = shared.runtime().timer();
        let silence = Silence::new(shared.now(), settings.keep_alive, settings.lost_after);
        Self {
            driver,
            shared,
            order,
            substreams: BTreeMap::new(),
            opening: BTreeSet::new(),
            scratch: Scratch::default(),
            silence,
            timer,
        }
    }

    /// Gives back the session, without its substreams.
    pub(crate) fn into_driver(self) -> SessionDriver {
        self.driver
    }

    pub(crate) fn id(&mut self) -> SessionId {
        self.driver.session().id()
    }

    /// Returns whether a handshake substream of the peer would belong to another session than this.
    pub(crate) fn is_succeeded_by(&mut self, protocol: Option<&ProtocolId>) -> bool {
        let Some(ProtocolId::Handshake(profile)) = protocol else {
            return false;
        };
        self.driver.session().is_succeeded_by(*profile)
    }

    /// Returns whether nothing more is said in the handshake.
    pub(crate) fn handshake_is_over(&mut self) -> bool {
        self.driver.session().handshake_is_over()
    }

    /// Returns what the peer may open now.
    pub(crate) fn protocols(&mut self) -> Vec<ProtocolId> {
        self.driver.session().protocols()
    }

    // ---- from the swarm -----------------------------------------------------------------------

    /// The peer has opened a substream.
    pub(crate) fn accepted(&mut self, negotiated: Negotiated) {
        let now = self.shared.now();
        self.silence.heard(now);
        let id = self.driver.session().handle_accepted(now, negotiated.protocol.clone());
        self.substreams.insert(id, Substream::new(id, negotiated, self.order));
    }

    /// What was asked for has been opened.
    pub(crate) fn opened(&mut self, opening: Opening, negotiated: Negotiated) {
        let now = self.shared.now();
        self.silence.heard(now);
        let Some(id) = opening.substream else {
            self.silence.answered(now, true);
            return self.driver.session().handle_probe_accepted(now);
        };
        if self.opening.remove(&id) {
            let protocol = negotiated.protocol.clone();
            self.substreams.insert(id, Substream::new(id, negotiated, self.order));
            self.driver.session().handle_opened(now, id, protocol);
        }
    }

    /// What was asked for could not be opened.
    pub(crate) fn open_failed(&mut self, opening: Opening, error: OpenError) {
        let now = self.shared.now();
        let is_answer = error == OpenError::Refused;
        if is_answer {
            self.silence.heard(now);
        }
        let Some(id) = opening.substream else {
            return self.silence.answered(now, is_answer);
        };
        if self.opening.remove(&id) {
            self.driver.session().handle_open_failed(now, id, error);
        }
    }

    // ---- the loop -----------------------------------------------------------------------------

    /// Does what can be done; returns the next thing that the swarm must do, or nothing for now.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Want> {
        let now = self.shared.now();
        self.substreams.values_mut().for_each(Substream::woken);
        self.driver.take_commands(now, cx);
        let mut want = None;
        let mut is_at_rest = false;
        for _ in 0..ROUNDS_PER_POLL {
            match self.round(cx, now) {
                Round::Again => {}
                Round::Rest => {
                    is_at_rest = true;
                    break;
                }
                Round::Want(wanted) => {
                    want = Some(wanted);
                    break;
                }
            }
        }
        if !is_at_rest && want.is_none() {
            // Others have their turn.
            cx.waker().wake_by_ref();
        }
        want
    }

    /// Does everything that can be done once.
    fn round(&mut self, cx: &mut Context<'_>, now: Instant) -> Round {
        if let Acted::Want(want) = self.act(now) {
            return Round::Want(want);
        }
        let mut has_more = false;
        let driver = &mut self.driver;
        let (scratch, silence) = (&mut self.scratch, &mut self.silence);
        self.substreams.retain(|_, substream| {
            let moved = substream.poll(cx, driver, now, scratch);
            has_more |= moved.has_more;
            if moved.has_heard {
                silence.heard(now);
            }
            if substream.unproven().is_some_and(|sent_at| silence.proves(sent_at)) {
                substream.proven(driver.session(), now);
            }
            !substream.is_over()
        });
        self.driver.deliver(now, cx);
        match self.act(now) {
            Acted::Want(want) => Round::Want(want),
            // A substream may read on, or write: nothing else would look after it.
            Acted::Done => Round::Again,
            Acted::Nothing if has_more => Round::Again,
            Acted::Nothing => self.poll_timer(cx),
        }
    }

    /// A session that is closed is not asked what to do: what it has to say to the node, its handler
    /// lets it say once the connection is free for another.
    fn act(&mut self, now: Instant) -> Acted {
        if self.driver.session().is_closed() {
            self.substreams.clear();
            return Acted::Want(Want::Over);
        }
        let mut acted = Acted::Nothing;
        while let Some(action) = self.driver.poll_action() {
            acted = Acted::Done;
            match action {
                Action::OpenSubstream { substream, protocols } => {
                    self.opening.insert(substream);
                    let session = self.id();
                    return Acted::Want(Want::Open(
                        Opening { session, substream: Some(substream) },
                        protocols,
                    ));
                }
                Action::WantWrite(id) => self.with(id, Substream::want_write),
                Action::Finish(id) => self.with(id, Substream::finish),
                Action::ResumeRead(id) => {
                    if let Some(substream) = self.substreams.get_mut(&id) {
                        substream.resume(self.driver.session(), now);
                    }
                }
                // libp2p has no reset but to drop; its multiplexers tell the peer.
                Action::Reset { substream, .. } => {
                    self.opening.remove(&substream);
                    self.substreams.remove(&substream);
                }
                _ => {}
            }
        }
        acted
    }

    fn with(&mut self, id: SubstreamId, change: impl FnOnce(&mut Substream)) {
        if let Some(substream) = self.substreams.get_mut(&id) {
            change(substream);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Round {
        let now = self.shared.now();
        if self.silence.is_lost(now) {
            self.driver.session().handle_connection_lost(now, ConnectionLost::TimedOut);
            return Round::Again;
        }
        let unproven = self.substreams.values().filter_map(Substream::unproven).min();
        if self.silence.begins_probe(now, unproven) {
            let opening = Opening { session: self.id(), substream: None };
            return Round::Want(Want::Open(opening, vec![ProtocolId::Probe]));
        }
        let at = self.silence.deadline(unproven);
        let at = self.driver.session().poll_timeout().map_or(at, |session| session.min(at));
        self.timer.reset(self.shared.until(at));
        if self.timer.poll(cx).is_pending() {
            return Round::Rest;
        }
        self.driver.session().handle_timeout(self.shared.now());
        Round::Again
    }
}

/// What came of what the session asked for.
enum Acted {
    Nothing,
    Done,
    Want(Want),
}

enum Round {
    Again,
    Rest,
    Want(Want),
}

const ROUNDS_PER_POLL: usize = 32;
