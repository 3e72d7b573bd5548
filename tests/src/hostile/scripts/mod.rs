//! The scripts. Each plays its attack once.

pub(super) mod certificates;
pub(super) mod connections;
pub(super) mod dials;
pub(super) mod floods;
pub(super) mod frames;
pub(super) mod go_frames;
pub(super) mod handshake;
pub(super) mod names;
pub(super) mod places;
pub(super) mod records;
pub(super) mod streams;

/// What is reported where the victim has nothing to report.
const NOTHING: &str = "-";
