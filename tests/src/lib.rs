//! Scenarios that run over every fabric, and checks against other implementations.
//!
//! So far: the program on the front page of the repository is compiled and run.

#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
struct Readme;
