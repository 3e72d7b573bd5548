//! What the programs have in common.

use std::io;

/// Returns what waits for Ctrl-C, or for what stops a container. Called before anything is printed: who
/// reads that may send the signal at once, and it would end a program that does not wait for it yet.
///
/// # Errors
///
/// If the system refuses to tell.
pub fn stopped() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
}
