//! Dials a peer at several addresses: the first that answers wins.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use glueberry_proto::{Address, DialError};
use libp2p_identity::PeerId;
use tracing::debug;

use super::{DialError as QuicDialError, Endpoint, QuicAddr};
use crate::error::chain;
use crate::runtime::Runtime;

/// Tries the addresses in their order, which begins with the one that was last good, the next as soon as one has failed or has not answered for
/// [`HEAD_START`]. So addresses without an answer cost little, as in RFC 8305. The attempts
/// that have not won are given up. Returns the address that has won, too.
pub(super) async fn dial_any(
    endpoint: &Endpoint,
    runtime: &dyn Runtime,
    peer: PeerId,
    addresses: &[Address],
) -> Result<(quinn::Connection, Address), DialError> {
    let mut untried = VecDeque::new();
    for address in addresses {
        untried.extend(address.as_str().parse::<QuicAddr>().map(|quic| (quic.socket, address)));
    }
    let mut attempts = FuturesUnordered::new();
    let mut last = DialError::NoUsableAddress;
    loop {
        if let Some((socket, address)) = untried.pop_front() {
            let attempt = endpoint.dial(socket, peer);
            attempts.push(async move { (address, attempt.await) });
        }
        let is_last = untried.is_empty();
        let head_start = async {
            match is_last {
                true => pending().await,
                false => runtime.sleep_until(runtime.now() + HEAD_START).await,
            }
        };
        match select(attempts.next(), pin!(head_start)).await {
            Either::Left((None, _)) => return Err(last),
            Either::Left((Some((address, Ok(connection))), _)) => {
                return Ok((connection, address.clone()));
            }
            Either::Left((Some((address, Err(error))), _)) => {
                debug!(%peer, %address, error = %chain(&error), "dial failed");
                last = dial_error(&error);
            }
            Either::Right(_) => {}
        }
    }
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
