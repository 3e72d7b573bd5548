//! Bodies of fuzz targets, and faults for the rule tests. Not a public API.

pub use crate::fault::Fault;
