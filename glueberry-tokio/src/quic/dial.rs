//! Dials a peer at several addresses: the first that answers wins.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
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
    let mut untried = Untried::default();
    for address in addresses {
        untried.targets.extend(Target::parse(address.as_str()).map(|target| (target, address)));
    }
    let mut attempts: FuturesUnordered<Attempt<'_>> = FuturesUnordered::new();
    let mut last = DialError::NoUsableAddress;
    loop {
        if let Some((target, address)) = untried.targets.pop_front() {
            attempts.push(attempt(endpoint, runtime, peer, target, address));
        }
        let is_last = untried.targets.is_empty();
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
                debug!(%peer, address = printable(address), error = %chain(&error), "dial failed");
                last = dial_error(&error);
            }
            Either::Left((Some((address, Outcome::Resolved(Ok(found)))), _)) => {
                let left_out = untried.found(found, address);
                if left_out > 0 {
                    debug!(%peer, address = printable(address), left_out, "name leads to too many addresses");
                    let error = format!("{address} leads to too many addresses");
                    last = DialError::Transport(printable(error));
                }
            }
            Either::Left((Some((address, Outcome::Resolved(Err(error)))), _)) => {
                debug!(%peer, address = printable(address), error, "name not resolved");
                last = DialError::Transport(error);
            }
            Either::Right(_) => {}
        }
    }
}

/// What is left to try.
#[derive(Default)]
struct Untried<'a> {
    targets: VecDeque<(Target, &'a Address)>,
    /// Targets that names have led to: others write those lists.
    found: usize,
}

impl<'a> Untried<'a> {
    /// Puts what a name leads to in its place. Returns how many of it were too many.
    fn found(&mut self, mut found: Vec<Target>, address: &'a Address) -> usize {
        let left_out = found.len().saturating_sub(MOST_FOUND - self.found);
        found.truncate(MOST_FOUND - self.found);
        self.found += found.len();
        for target in found.into_iter().rev() {
            self.targets.push_front((target, address));
        }
        left_out
    }
}

type Attempt<'a> = Pin<Box<dyn Future<Output = (&'a Address, Outcome)> + Send + 'a>>;

/// What came of one address.
enum Outcome {
    Dialled(Result<quinn::Connection, QuicDialError>),
    /// What a name leads to, or why to nothing.
    Resolved(Result<Vec<Target>, String>),
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
                let resolved = resolved.map(|it| it.into_iter().map(Target::Socket).collect());
                Outcome::Resolved(resolved.map_err(|error| unresolved(name.name(), &error)))
            }
            #[cfg(feature = "dnsaddr")]
            Target::Dnsaddr(list) => {
                let resolved = Target::listed(&list, runtime, peer).await;
                Outcome::Resolved(resolved.map_err(|error| unresolved(list.name(), &error)))
            }
        };
        (address, outcome)
    })
}

fn unresolved(name: &str, error: &io::Error) -> String {
    printable(format!("name {name}: {error}"))
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
/// What the names among a peer's addresses may lead to in one dial, names that are looked up included.
const MOST_FOUND: usize = 64;
