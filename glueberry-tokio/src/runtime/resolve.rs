//! Looking up names in threads, because the operating system's resolver blocks.

use std::future::Future;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_channel::oneshot;

/// Asks the resolver, and blocks until it answers.
pub(super) fn blocking(name: &str) -> io::Result<Vec<IpAddr>> {
    // The port is of no interest here.
    Ok((name, 0).to_socket_addrs()?.map(|socket| socket.ip()).collect())
}

/// Does a look-up in a thread of its own.
pub(super) fn in_thread<T: Send + 'static>(
    blocking: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send>> {
    let (answer, result) = oneshot::channel();
    let begun = Lookup::begin().and_then(|lookup| {
        thread::Builder::new().name("glueberry-dns".to_owned()).spawn(move || {
            let result = blocking();
            drop(lookup);
            // A dial that was given up waits no more.
            answer.send(result).ok();
        })
    });
    Box::pin(async move {
        drop(begun?);
        result.await.unwrap_or_else(|_| Err(io::Error::other("the resolver's thread has died")))
    })
}

/// One of the look-ups that may run at one time: the system's resolver can't be interrupted, so dials
/// that are given up leave theirs behind for a while.
struct Lookup;

impl Lookup {
    fn begin() -> io::Result<Self> {
        match RUNNING.fetch_add(1, Ordering::AcqRel) < MOST_LOOKUPS {
            true => Ok(Self),
            false => {
                RUNNING.fetch_sub(1, Ordering::AcqRel);
                Err(io::Error::other("too many names are looked up at one time"))
            }
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

static RUNNING: AtomicUsize = AtomicUsize::new(0);
const MOST_LOOKUPS: usize = 32;
