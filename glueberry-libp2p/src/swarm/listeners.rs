//! Where a node is to listen, and listening again where that has ended: a relay may be restarted.

use std::fmt::Display;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::stream::StreamExt;
use glueberry_proto::printable;
use glueberry_tokio::runtime::Runtime;
use glueberry_tokio::{Error, ErrorCode};
use libp2p::core::transport::ListenerId;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, TransportError};
use tracing::warn;

use super::behaviours::{Behaviours, BehavioursEvent};
use super::task::handle;

/// The addresses that the node is to listen on.
pub(super) struct Listeners(Vec<Listener>);

struct Listener {
    address: Multiaddr,
    state: State,
    /// Times in a row that it could not be listened on.
    failures: u32,
    /// The loss was reported to the application.
    is_reported: bool,
}

enum State {
    /// The transport was asked, and has not reported an address.
    Pending(ListenerId),
    Listening(ListenerId),
    /// It is tried again then.
    Lost {
        retry_at: Instant,
    },
}

impl Listeners {
    /// Listens on all addresses; returns when each has reported its address, or could not be listened
    /// on. One that listens is enough: the others are tried again.
    pub(super) async fn start(
        swarm: &mut Swarm<Behaviours>,
        addresses: &[Multiaddr],
        runtime: &dyn Runtime,
    ) -> Result<Self, Error> {
        let mut all = Self(Vec::new());
        let mut problem = None;
        for address in addresses {
            let (state, failed) = match swarm.listen_on(address.clone()) {
                Ok(id) => (State::Pending(id), None),
                Err(TransportError::MultiaddrNotSupported(address)) => {
                    let why = format!("{address} is not supported");
                    return Err(Error::because(ErrorCode::InvalidAddress, why));
                }
                Err(error) => (State::Lost { retry_at: runtime.now() }, Some(error.to_string())),
            };
            let address = address.clone();
            all.0.push(Listener { address, state, failures: 0, is_reported: false });
            if let Some(why) = failed {
                all.lost(swarm, all.0.len() - 1, &why, runtime.now());
                problem.get_or_insert(why);
            }
        }
        all.wait(swarm, runtime, &mut problem).await;
        if all.0.is_empty() || all.0.iter().any(|one| matches!(one.state, State::Listening(_))) {
            return Ok(all);
        }
        let why = problem.unwrap_or_else(|| "it took too long".to_owned());
        let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        Err(Error::because(ErrorCode::ListenFailed, format!("{}: {why}", names.join(", "))))
    }

    /// Waits for the first outcome of each.
    async fn wait(
        &mut self,
        swarm: &mut Swarm<Behaviours>,
        runtime: &dyn Runtime,
        problem: &mut Option<String>,
    ) {
        let begun = runtime.now();
        while self.0.iter().any(|one| matches!(one.state, State::Pending(_))) {
            let is_reached = self.0.iter().any(|one| matches!(one.state, State::Listening(_)));
            let time = if is_reached { GRACE } else { LISTEN_TIME };
            let event = match select(swarm.next(), runtime.sleep_until(begun + time)).await {
                Either::Left((Some(event), _)) => event,
                Either::Left((None, _)) | Either::Right(_) => return,
            };
            if let SwarmEvent::ListenerClosed { reason: Err(error), .. } = &event {
                problem.get_or_insert(printable(error));
            }
            self.handle(swarm, &event, runtime.now());
            handle(swarm, event);
        }
    }

    /// Takes note of what has become of a listener.
    pub(super) fn handle(
        &mut self,
        swarm: &Swarm<Behaviours>,
        event: &SwarmEvent<BehavioursEvent>,
        now: Instant,
    ) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, .. } => {
                let Some(one) = self.find(*listener_id) else { return };
                let one = &mut self.0[one];
                (one.state, one.failures) = (State::Listening(*listener_id), 0);
                if std::mem::take(&mut one.is_reported) {
                    let address = one.address.clone();
                    swarm.behaviour().glueberry.listener_restored(address);
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let Some(at) = self.find(*listener_id) else { return };
                match reason {
                    Ok(()) => self.lost(swarm, at, &"the listener was closed", now),
                    Err(error) => self.lost(swarm, at, error, now),
                }
            }
            _ => {}
        }
    }

    /// Returns when an address is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let times = self.0.iter().filter_map(|one| match one.state {
            State::Lost { retry_at } => Some(retry_at),
            State::Pending(_) | State::Listening(_) => None,
        });
        times.min()
    }

    /// Listens again on what was lost, where the time for it has come.
    pub(super) fn retry(&mut self, swarm: &mut Swarm<Behaviours>, now: Instant) {
        for at in 0..self.0.len() {
            let one = &mut self.0[at];
            if !matches!(one.state, State::Lost { retry_at } if retry_at <= now) {
                continue;
            }
            match swarm.listen_on(one.address.clone()) {
                Ok(id) => one.state = State::Pending(id),
                Err(error) => self.lost(swarm, at, &error, now),
            }
        }
    }

    fn find(&self, id: ListenerId) -> Option<usize> {
        self.0.iter().position(|one| match one.state {
            State::Pending(of) | State::Listening(of) => of == id,
            State::Lost { .. } => false,
        })
    }

    fn lost(&mut self, swarm: &Swarm<Behaviours>, at: usize, why: &dyn Display, now: Instant) {
        let one = &mut self.0[at];
        let wait = FIRST_RETRY.saturating_mul(1 << one.failures.min(16)).min(LAST_RETRY);
        one.failures = one.failures.saturating_add(1);
        one.state = State::Lost { retry_at: now + wait };
        let reason = printable(why);
        warn!(address = %one.address, %reason, "not listening");
        // Each further try that fails is no news.
        if !std::mem::replace(&mut one.is_reported, true) {
            swarm.behaviour().glueberry.listener_lost(one.address.clone(), reason);
        }
    }
}

/// Time for a listener to tell where it is; a relay may have to be dialled first.
const LISTEN_TIME: Duration = Duration::from_secs(30);
/// Time for that once another listens.
const GRACE: Duration = Duration::from_secs(5);
/// Wait before an address is tried again; it doubles with each failure, up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
