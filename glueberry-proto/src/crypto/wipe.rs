//! Wiping what a computation with secrets leaves on the stack.
//!
//! Types that wipe themselves do so where they are dropped. What they were moved from, arguments that
//! are passed by value and the temporary values of the crates below stay on the stack behind a call,
//! until something else happens to be written there.

use zeroize::Zeroize;

/// Runs a computation and overwrites the stack that it has used.
///
/// Its result must hold secrets in allocations only: what is returned by value is copied to the
/// caller's stack.
pub(crate) fn on_wiped_stack<T>(compute: impl FnOnce() -> T) -> T {
    let result = apart(compute);
    overwrite::<WORDS>();
    result
}

/// The same for a computation that uses more of the stack: one of ML-KEM.
#[cfg(feature = "ml-kem")]
pub(crate) fn on_wiped_deep_stack<T>(compute: impl FnOnce() -> T) -> T {
    let result = apart(compute);
    overwrite::<DEEP_WORDS>();
    result
}

/// Has a frame of its own, which begins where that of [`overwrite`] begins.
#[inline(never)]
fn apart<T>(compute: impl FnOnce() -> T) -> T {
    compute()
}

/// As a slice, which is wiped in bulk: an array is wiped word by word, which takes three times as long,
/// and a handshake of v2 does this eighty times.
#[inline(never)]
fn overwrite<const N: usize>() {
    [0_u64; N].as_mut_slice().zeroize();
}

/// Words of the stack that are overwritten: more than a key agreement uses without optimisation.
const WORDS: usize = 2048;

/// Words that are overwritten behind a computation with polynomials.
#[cfg(feature = "ml-kem")]
const DEEP_WORDS: usize = 8 * 1024;

#[cfg(test)]
#[cfg(target_os = "linux")]
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::type_complexity,
    reason = "a process of its own searches its memory and reports"
)]
mod tests;
