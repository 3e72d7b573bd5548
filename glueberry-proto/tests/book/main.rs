//! The address book: what changes do to it, and its file.

#![expect(clippy::unwrap_used, reason = "what fails to unwrap here fails the test that called")]

mod changes;
mod damage;
mod properties;
mod support;
mod vectors;
