//! The life of peers over real UDP sockets: killed, frozen, restarted, banned, racing, flooded.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

mod advice;
mod bans;
mod book;
mod cancel;
mod dialling;
mod downgrade;
mod dropped;
mod endless;
mod errors;
mod faults;
mod greet;
mod leaving;
mod load;
mod memory;
mod names;
mod observe;
mod owners;
mod processes;
mod programs;
mod races;
mod readers;
mod reconnect;
mod request;
mod shares;
mod sockets;
mod strangers;
mod suites;
mod support;
mod turns;
