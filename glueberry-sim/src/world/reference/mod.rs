//! A second and obvious idea of what nodes and sessions must do, by the documents and not by the
//! code: what each waits for and how long, which of two sessions wins, what a node says of a peer,
//! and what became of messages. After every event the core must agree with it.

mod accounts;
mod admission;
mod deadlines;
mod dialling;
mod endings;
mod pruning;
mod rivals;
mod rooms;
mod status;
mod still;
mod waits;

pub(super) use self::deadlines::Storing;
