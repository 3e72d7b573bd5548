//! Scenarios that run over every fabric, and checks against other implementations.
//!
//! `cargo test -p glueberry-tests --test matrix` runs the list of [`scenarios`] over every pair of
//! fabrics, and in the simulator those that it can [play](simulated), and prints the table; behind `--`, words choose scenarios by their names. The program
//! on the front page of the repository is compiled and run as a test of the documentation.

pub mod crowd;
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

#[doc = include_str!("../../docs/transports.md")]
#[cfg(doctest)]
struct Transports;

#[doc = include_str!("../../docs/observing.md")]
#[cfg(doctest)]
struct Observing;

#[doc = include_str!("../../docs/tuning.md")]
#[cfg(doctest)]
struct Tuning;

#[doc = include_str!("../../docs/troubleshooting.md")]
#[cfg(doctest)]
struct Troubleshooting;

#[doc = include_str!("../../docs/coming-from.md")]
#[cfg(doctest)]
struct ComingFrom;

#[doc = include_str!("../../docs/containers.md")]
#[cfg(doctest)]
struct Containers;

#[doc = include_str!("../../glueberry-tokio/README.md")]
#[cfg(doctest)]
struct TokioReadme;

#[doc = include_str!("../../glueberry-libp2p/README.md")]
#[cfg(doctest)]
struct Libp2pReadme;
