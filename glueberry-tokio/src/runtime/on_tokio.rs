use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::{
    runtime::Handle,
    time::{Sleep, sleep_until},
};

use super::{Runtime, Task, Timer};

/// Runs a node on tokio.
///
/// It remembers the tokio runtime that it was made in, and everything it spawns, times or binds
/// belongs to that one, whichever thread or executor the caller is on later. That tokio runtime
/// needs its time and I/O drivers (`enable_all`), else the first timer or socket panics; once it
/// has shut down, tasks are dropped unrun.
///
/// ```
/// use glueberry_tokio::runtime::TokioRuntime;
///
/// assert!(TokioRuntime::current().is_none(), "no runtime runs on this thread");
/// let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// runtime.block_on(async { assert!(TokioRuntime::current().is_some()) });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TokioRuntime {
    handle: Handle,
}

impl TokioRuntime {
    /// The tokio runtime that the caller is in, or `None` outside of one.
    pub fn current() -> Option<Self> {
        Handle::try_current().ok().map(|handle| Self { handle })
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, task: Task) {
        self.handle.spawn(task);
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(TokioTimer { handle: self.handle.clone(), sleep: None, state: State::Idle })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[cfg(feature = "quic")]
    fn quinn(&self) -> Option<std::sync::Arc<dyn quinn::Runtime>> {
        Some(std::sync::Arc::new(quic::OnTokio { handle: self.handle.clone() }))
    }
}

#[derive(Debug)]
struct TokioTimer {
    handle: Handle,
    /// Made on first use, since tokio's cannot exist without a deadline.
    sleep: Option<Pin<Box<Sleep>>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Armed,
    Due,
}

impl Timer for TokioTimer {
    fn reset(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else {
            self.state = State::Idle;
            return;
        };
        self.state = State::Armed;
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(deadline.into());
        } else {
            let _inside = self.handle.enter();
            self.sleep = Some(Box::pin(sleep_until(deadline.into())));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let (State::Armed, Some(sleep)) = (self.state, &mut self.sleep)
            && sleep.as_mut().poll(cx).is_ready()
        {
            self.state = State::Due;
        }
        if self.state == State::Due { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(feature = "quic")]
mod quic {
    use std::{io, net::UdpSocket, pin::Pin, sync::Arc, time::Instant};

    use quinn::{AsyncTimer, AsyncUdpSocket};
    use tokio::runtime::Handle;

    use crate::runtime::Task;

    /// quinn's own runtime for tokio, entered wherever it would look for the current one.
    #[derive(Debug)]
    pub(super) struct OnTokio {
        pub(super) handle: Handle,
    }

    impl quinn::Runtime for OnTokio {
        fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
            let _inside = self.handle.enter();
            quinn::TokioRuntime.new_timer(deadline)
        }

        fn spawn(&self, task: Task) {
            self.handle.spawn(task);
        }

        fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
            let _inside = self.handle.enter();
            quinn::TokioRuntime.wrap_udp_socket(socket)
        }

        fn now(&self) -> Instant {
            quinn::TokioRuntime.now()
        }
    }
}
