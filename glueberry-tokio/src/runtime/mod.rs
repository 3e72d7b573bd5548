//! The executor, the clock and the timers that a node runs on.
//!
//! [`TokioRuntime`] is the default. `AnyRuntime` runs a node on smol, async-std or any other
//! executor: it brings its own reactor thread and asks only for a way to spawn. Whoever has
//! neither implements [`Runtime`].

#[cfg(feature = "async-io")]
mod any;
#[cfg(feature = "tokio")]
mod on_tokio;
mod resolve;
#[cfg(feature = "dnsaddr")]
pub(crate) mod txt;
#[cfg(all(feature = "async-io", feature = "quic"))]
mod udp;

use std::{
    fmt::Debug,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

#[cfg(feature = "async-io")]
pub use any::AnyRuntime;
#[cfg(feature = "tokio")]
pub use on_tokio::TokioRuntime;

/// A piece of a node that runs in the background until it is done.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a node needs of an async runtime.
pub trait Runtime: Send + Sync + Debug + 'static {
    /// Runs `task` in the background until it ends.
    ///
    /// A task that outlives the runtime is dropped.
    fn spawn(&self, task: Task);

    /// Creates a timer that is not armed yet.
    fn timer(&self) -> Box<dyn Timer>;

    /// The time on the monotonic clock that this runtime's timers follow.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// The time on the wall clock: events and messages carry it, and bans end by it.
    fn wall_time(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Fills `bytes` from a cryptographically secure generator: the node's keys are made of them. The default
    /// is the operating system's; only a simulation has a reason to use another.
    ///
    /// # Errors
    ///
    /// If there is none to be had.
    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::from)
    }

    /// What carries QUIC on this runtime, or `None` if it has no UDP sockets.
    ///
    /// Only the feature `quic` asks for it. The default is `None`: a runtime written while that
    /// feature was off keeps compiling, and binding a QUIC socket on it fails with an error.
    #[cfg(feature = "quic")]
    fn quinn(&self) -> Option<Arc<dyn quinn::Runtime>> {
        None
    }

    /// Looks up the addresses of a name, by the operating system's resolver.
    ///
    /// The default asks it in a thread of its own, at most 32 at one time in a process.
    fn resolve(&self, name: &str) -> Resolving {
        let name = name.to_owned();
        resolve::in_thread(move || resolve::blocking(&name))
    }

    /// Looks up the TXT records of a name, each as one text. Only with the feature `dnsaddr`, which
    /// `/dnsaddr` addresses need.
    ///
    /// The default asks the name servers that the operating system is configured with, in a thread of its
    /// own that counts as one of those of [`resolve`](Self::resolve).
    #[cfg(feature = "dnsaddr")]
    fn resolve_txt(&self, name: &str) -> ResolvingTxt {
        let name = name.to_owned();
        resolve::in_thread(move || txt::blocking(&name, None))
    }

    /// Waits until `deadline`.
    fn sleep_until(&self, deadline: Instant) -> Sleep {
        let mut timer = self.timer();
        timer.reset(Some(deadline));
        Sleep { timer }
    }

    /// Waits for as long as that, or for ever if no clock can tell when it ends.
    fn sleep(&self, time: Duration) -> Sleep {
        let mut timer = self.timer();
        timer.reset(self.now().checked_add(time));
        Sleep { timer }
    }
}

/// The addresses that a name leads to; see [`Runtime::resolve`].
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The TXT records of a name; see [`Runtime::resolve_txt`].
#[cfg(feature = "dnsaddr")]
pub type ResolvingTxt = Pin<Box<dyn Future<Output = io::Result<Vec<String>>> + Send>>;

/// One alarm, set as often as needed.
pub trait Timer: Send + Debug + 'static {
    /// Arms the timer for `deadline`, or disarms it.
    ///
    /// A deadline in the past is due at once. Wakes no task: the caller polls again afterwards.
    fn reset(&mut self, deadline: Option<Instant>);

    /// Says whether the deadline has passed, or arranges for a wake-up when it has.
    ///
    /// Once ready, it stays ready until the next [`reset`](Self::reset). A timer that is not armed
    /// is never ready and keeps no waker.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A future that is ready at a deadline; see [`Runtime::sleep_until`] and [`Runtime::sleep`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Sleep {
    timer: Box<dyn Timer>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx)
    }
}

/// The runtime to use when the application names none.
///
/// Tokio, if that feature is on and the caller is inside a tokio runtime; else smol, else
/// async-std, by feature; else `None`.
pub fn default_runtime() -> Option<Arc<dyn Runtime>> {
    #[cfg(feature = "tokio")]
    if let Some(runtime) = TokioRuntime::current() {
        return Some(Arc::new(runtime));
    }
    without_tokio()
}

#[cfg(feature = "smol")]
#[expect(clippy::unnecessary_wraps, reason = "other features have none")]
fn without_tokio() -> Option<Arc<dyn Runtime>> {
    Some(Arc::new(AnyRuntime::smol()))
}

#[cfg(all(feature = "async-std", not(feature = "smol")))]
#[expect(clippy::unnecessary_wraps, reason = "other features have none")]
fn without_tokio() -> Option<Arc<dyn Runtime>> {
    Some(Arc::new(AnyRuntime::async_std()))
}

#[cfg(not(any(feature = "smol", feature = "async-std")))]
fn without_tokio() -> Option<Arc<dyn Runtime>> {
    None
}

#[cfg(test)]
#[cfg(any(feature = "tokio", feature = "async-io"))]
pub(crate) mod tests;
