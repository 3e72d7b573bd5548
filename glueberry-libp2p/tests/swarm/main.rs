//! A behaviour in swarms that others use too, and nodes behind relays.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

mod counted;
mod crowded_relay;
mod gates;
mod own_connection;
mod parts;
#[cfg(unix)]
mod programs;
mod relay_server;
mod relays;
mod shared;
mod strangers;
mod support;
mod unproven;
mod windows;
