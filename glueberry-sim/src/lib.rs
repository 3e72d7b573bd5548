#![doc = include_str!("../README.md")]

mod attack;
mod check;
mod cipher;
mod cli;
mod disk;
mod export;
mod fault;
mod generate;
mod golden;
mod host;
mod line;
mod link;
mod model;
#[cfg(feature = "async")]
pub mod nodes;
mod page;
mod plan;
mod profiles;
mod queue;
mod report;
mod rng;
mod run;
mod script;
mod search;
mod shrink;
mod simulation;
mod situation;
mod talk;
mod trace;
mod vary;
mod wake;
mod watch;
mod world;

#[cfg(test)]
mod tests;

pub use check::{Invariant, Violation};
pub use cli::{main, main_from};
pub use plan::Mix;
pub use simulation::{Failed, Peer, Report, Simulation};
