//! Deterministic simulator that runs the Glueberry core in virtual time.
//!
//! A place that is kept: there is nothing here yet. The core that it will run, `glueberry-proto`,
//! takes time and entropy as arguments.
