//! Randomness for keys, as the runtime gives it.

use std::io;

use zeroize::Zeroizing;

use crate::runtime::Runtime;

/// Draws 32 fresh bytes.
///
/// # Errors
///
/// If the system has none to give.
pub(crate) fn entropy(runtime: &dyn Runtime) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    runtime.fill_random(&mut *bytes)?;
    Ok(bytes)
}

/// Draws a number that is not secret.
pub(crate) fn random(runtime: &dyn Runtime) -> u64 {
    let mut bytes = [0; 8];
    // Without entropy there is no node: the generator has worked before.
    drop(runtime.fill_random(&mut bytes));
    u64::from_le_bytes(bytes)
}
