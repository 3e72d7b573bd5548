//! The address book's file, on a real file system and with real processes.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

#[cfg(unix)]
mod crash;
#[cfg(unix)]
mod full;
mod load;
#[cfg(unix)]
mod lock;
#[cfg(unix)]
mod permissions;
mod save;
mod support;
