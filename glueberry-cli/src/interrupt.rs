//! Ctrl-C, and what stops a container.

use std::io;
use std::pin::Pin;

use crate::output::Failure;

/// Ctrl-C or SIGTERM, from the moment that this is made: once a program has asked for them, they end
/// the program no more by themselves, whatever that does at the moment.
pub(crate) struct Interrupt(Option<Pin<Box<dyn Future<Output = io::Result<()>>>>>);

impl Interrupt {
    pub(crate) fn new() -> Self {
        Self(Some(Box::pin(stopped())))
    }

    /// Ready when one came, now or at any time before. Cancel-safe.
    pub(crate) async fn came(&mut self) {
        if let Some(stopped) = &mut self.0 {
            // Where there are no signals, none can be waited for.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        self.0 = None;
    }

    /// Waits for a result, or fails if an interrupt comes first.
    pub(crate) async fn or<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            result = work => result,
            () = self.came() => Err(Failure::new("interrupted")),
        }
    }
}

#[cfg(unix)]
fn stopped() -> impl Future<Output = io::Result<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    // From now on, and not from the first poll on.
    let signals = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    async {
        let (mut interrupt, mut terminate) = signals?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }
}

#[cfg(not(unix))]
fn stopped() -> impl Future<Output = io::Result<()>> {
    tokio::signal::ctrl_c()
}
