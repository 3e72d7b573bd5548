//! Scenarios that run over every fabric, and checks against other implementations.
//!
//! `cargo test -p glueberry-tests --test matrix` runs the list of [`scenarios`] over every pair of
//! fabrics, and in the simulator those that it can [play](simulated), and prints the table; behind `--`, words choose scenarios by their names. The program
//! on the front page of the repository is compiled and run as a test of the documentation.

#[cfg(test)]
mod document;
pub mod fabric;
pub mod hostile;
pub mod interop;
pub mod party;
mod pipes;
#[cfg(test)]
mod promises;
pub mod proxy;
pub mod scenarios;
pub mod simulated;
#[cfg(test)]
mod walks;

#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
struct Readme;

#[doc = include_str!("../../docs/go.md")]
#[cfg(doctest)]
struct Go;
