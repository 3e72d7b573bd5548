//! Randomness of the operating system.

use zeroize::Zeroizing;

/// Draws 32 fresh bytes.
///
/// # Errors
///
/// If the system has none to give.
pub(crate) fn entropy() -> Result<Zeroizing<[u8; 32]>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)?;
    Ok(bytes)
}
