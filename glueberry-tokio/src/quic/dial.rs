//! Dials a peer at several addresses: the first that answers wins.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use glueberry_proto::{Address, DialError, printable};
use libp2p_identity::PeerId;
use tracing::debug;

use super::name::Target;
use super::{DialError as QuicDialError, Endpoint};
use crate::error::chain;
use crate::runtime::Runtime;

/// Tries the addresses in their order, which begins with the one that was last good, the next as
/// soon as one has failed or has not answered for [`HEAD_START`]. A name is replaced by its addresses
/// once it is resolved. So addresses without an answer cost little, as in RFC 8305. The attempts
/// that have not won are given up. Returns the address that has won, too.
pub(super) async fn dial_any(
    endpoint: &Endpoint,
    runtime: &dyn Runtime,
    peer: PeerId,
    addresses: &[Address],
) -> Result<(quinn::Connection, Address), DialError> {
    let mut untried = VecDeque::new();
    for address in addresses {
        untried.extend(Target::parse(address.as_str()).map(|target| (target, address)));
    }
    let mut attempts: FuturesUnordered<Attempt<'_>> = FuturesUnordered::new();
    let mut last = DialError::NoUsableAddress;
    loop {
        if let Some((target, address)) = untried.pop_front() {
            attempts.push(attempt(endpoint, runtime, peer, target, address));
        }
        let is_last = untried.is_empty();
        let head_start = async {
            match is_last {
                true => pending().await,
                false => runtime.sleep(HEAD_START).await,
            }
        };
        match select(attempts.next(), pin!(head_start)).await {
            Either::Left((None, _)) => return Err(last),
            Either::Left((Some((address, Outcome::Dialled(Ok(connection)))), _)) => {
                return Ok((connection, address.clone()));
            }
            Either::Left((Some((address, Outcome::Dialled(Err(error)))), _)) => {
                debug!(%peer, %address, error = %chain(&error), "dial failed");
                last = dial_error(&error);
            }
            // In the place of the name.
            Either::Left((Some((address, Outcome::Resolved(Ok(sockets)))), _)) => {
                for socket in sockets.into_iter().rev() {
                    untried.push_front((Target::Socket(socket), address));
                }
            }
            Either::Left((Some((address, Outcome::Resolved(Err(error)))), _)) => {
                debug!(%peer, %address, error, "name not resolved");
                last = DialError::Transport(error);
            }
            Either::Right(_) => {}
        }
    }
}

type Attempt<'a> = Pin<Box<dyn Future<Output = (&'a Address, Outcome)> + Send + 'a>>;

/// What came of one address.
enum Outcome {
    Dialled(Result<quinn::Connection, QuicDialError>),
    /// The sockets behind a name, or why there are none.
    Resolved(Result<Vec<SocketAddr>, String>),
}

fn attempt<'a>(
    endpoint: &'a Endpoint,
    runtime: &'a dyn Runtime,
    peer: PeerId,
    target: Target,
    address: &'a Address,
) -> Attempt<'a> {
    Box::pin(async move {
        let outcome = match target {
            Target::Socket(socket) => Outcome::Dialled(endpoint.dial(socket, peer).await),
            Target::Name(name) => {
                let resolved = name.resolve(runtime).await;
                let failed = |error| printable(format!("name {}: {error}", name.name()));
                Outcome::Resolved(resolved.map_err(failed))
            }
        };
        (address, outcome)
    })
}

fn dial_error(error: &QuicDialError) -> DialError {
    match error {
        QuicDialError::WrongPeer { actual, .. } => {
            DialError::WrongPeer { actual: actual.to_string() }
        }
        QuicDialError::Connection(quinn::ConnectionError::TimedOut) => DialError::TimedOut,
        error => DialError::Transport(chain(error)),
    }
}

/// How long an address is alone before the next is tried beside it; RFC 8305, section 8, has this
/// default.
const HEAD_START: Duration = Duration::from_millis(250);
