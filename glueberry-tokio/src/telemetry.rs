//! Events, metrics and statistics of a node, fed in one place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use glueberry_proto::{CloseReason, ConnectionState, Direction, StreamName};
use libp2p_identity::PeerId;

use crate::event::{Event, StateChanged};
use crate::events::EventHub;
use crate::metrics::{AttemptOutcome, HandshakeOutcome, Metrics};
use crate::runtime::Runtime;
use crate::stats::Statistics;
use crate::views::Entered;

/// What the parts of a node report to.
#[derive(Debug)]
pub(crate) struct Telemetry {
    pub(crate) events: EventHub,
    pub(crate) metrics: Arc<dyn Metrics>,
    pub(crate) stats: Statistics,
    runtime: Arc<dyn Runtime>,
}

impl Telemetry {
    pub(crate) const fn new(
        events: EventHub,
        metrics: Arc<dyn Metrics>,
        stats: Statistics,
        runtime: Arc<dyn Runtime>,
    ) -> Self {
        Self { events, metrics, stats, runtime }
    }

    pub(crate) fn now(&self) -> Instant {
        self.runtime.now()
    }

    /// Publishes a change of state, and counts what follows from it.
    pub(crate) fn state_changed(&self, entered: Entered) {
        use ConnectionState::{Connected, Connecting, Cooldown, Disconnected, Established};
        let changed = &entered.changed;
        let StateChanged { peer, state, direction, at, .. } = *changed;
        // A subscriber that gets the event finds it counted.
        let before = self.events.previous(&peer);
        let is_live = |state| matches!(state, Connected | Established);
        let way = direction.unwrap_or(Direction::Inbound);
        if !is_live(before.state) && is_live(state) {
            self.metrics.connection_opened(way);
        } else if is_live(before.state) && !is_live(state) {
            self.metrics.connection_closed(before.direction.unwrap_or(way));
        }
        match (before.state, state) {
            (Connecting, Connected) => self.metrics.connection_attempt(AttemptOutcome::Success),
            (Connecting, Disconnected) => self.metrics.connection_attempt(AttemptOutcome::Failure),
            (Connected, Established) => {
                self.metrics.handshake_result(HandshakeOutcome::Success);
                self.metrics.handshake_duration(entered.since.duration_since(before.since));
            }
            (Connected, _) => self.metrics.handshake_result(handshake_outcome(changed)),
            _ => {}
        }
        let is_wanted = matches!(
            changed.reason,
            Some(
                glueberry_proto::StateReason::Disconnected
                    | glueberry_proto::StateReason::ShuttingDown
                    | glueberry_proto::StateReason::ReconnectionCancelled
                    | glueberry_proto::StateReason::CooldownOver
                    | glueberry_proto::StateReason::Blacklisted
                    | glueberry_proto::StateReason::Pruned
                    | glueberry_proto::StateReason::NoAddress
            )
        );
        let is_failure = matches!(state, Disconnected | Cooldown) && !is_wanted;
        self.stats.moved(peer, state, direction, is_failure, (at, entered.since));
        self.events.publish_change(entered);
    }

    /// Returns whether it is published that a stream is full, if it was last published at that
    /// time.
    pub(crate) fn announces_backpressure(announced_at: Option<Instant>, now: Instant) -> bool {
        announced_at.is_none_or(|at| now.saturating_duration_since(at) >= BACKPRESSURE_INTERVAL)
    }

    /// Publishes that a stream is full.
    pub(crate) fn backpressure(&self, peer: PeerId, stream: StreamName) {
        self.events.publish(&Event::Backpressure { peer, stream });
    }
}

fn handshake_outcome(changed: &StateChanged) -> HandshakeOutcome {
    match &changed.reason {
        Some(glueberry_proto::StateReason::SessionEnded(CloseReason::HandshakeTimeout)) => {
            HandshakeOutcome::Timeout
        }
        _ => HandshakeOutcome::Failure,
    }
}

/// A queue can fill and drain a thousand times a second: not every time is worth an event.
const BACKPRESSURE_INTERVAL: Duration = Duration::from_secs(1);
