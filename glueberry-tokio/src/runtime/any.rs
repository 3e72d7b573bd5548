use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use super::{Runtime, Task, Timer};

/// Runs a node on any executor.
///
/// Sockets and timers are served by the reactor thread of the crate `async-io`, which works under
/// every executor; tasks go to the function that the application supplies. smol and async-std have
/// constructors of their own.
///
/// ```
/// use std::thread;
/// use glueberry_tokio::runtime::AnyRuntime;
///
/// // An executor of one's own: here, a thread for every task.
/// let runtime = AnyRuntime::new("threads", |task| {
///     thread::spawn(|| async_io::block_on(task));
/// });
/// ```
#[derive(Clone)]
pub struct AnyRuntime {
    name: &'static str,
    spawn: Arc<dyn Fn(Task) + Send + Sync>,
}

impl AnyRuntime {
    /// Creates a runtime that hands its tasks to `spawn`.
    ///
    /// `spawn` must run each task to its end without being waited for, and must not run it before
    /// returning. `name` is for logs.
    pub fn new(name: &'static str, spawn: impl Fn(Task) + Send + Sync + 'static) -> Self {
        Self { name, spawn: Arc::new(spawn) }
    }

    /// Runs a node on smol's global executor.
    #[cfg(feature = "smol")]
    pub fn smol() -> Self {
        Self::new("smol", |task| smol::spawn(task).detach())
    }

    /// Runs a node on async-std's executor.
    ///
    /// async-std was discontinued by its authors in 2025 (RUSTSEC-2025-0052) and will get no more
    /// fixes. This constructor is for programs that still use it; new ones are better served
    /// by smol, out of whose crates async-std itself is made.
    #[cfg(feature = "async-std")]
    pub fn async_std() -> Self {
        Self::new("async-std", |task| drop(async_std::task::spawn(task)))
    }
}

impl fmt::Debug for AnyRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyRuntime").field(&self.name).finish()
    }
}

impl Runtime for AnyRuntime {
    fn spawn(&self, task: Task) {
        (self.spawn)(task);
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(ReactorTimer { timer: async_io::Timer::never(), due: false })
    }

    #[cfg(feature = "quic")]
    fn quinn(&self) -> Option<Arc<dyn quinn::Runtime>> {
        Some(Arc::new(super::udp::OnReactor { runtime: self.clone() }))
    }
}

#[derive(Debug)]
struct ReactorTimer {
    timer: async_io::Timer,
    due: bool,
}

impl Timer for ReactorTimer {
    fn reset(&mut self, deadline: Option<Instant>) {
        self.due = false;
        match deadline {
            Some(deadline) => self.timer.set_at(deadline),
            None => self.timer.clear(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.due {
            self.due = Pin::new(&mut self.timer).poll(cx).is_ready();
        }
        if self.due { Poll::Ready(()) } else { Poll::Pending }
    }
}
