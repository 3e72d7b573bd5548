//! What a side of the mux permits its peer, and how long it waits.

use core::time::Duration;

use crate::config::{ConfigError, Problem};

/// The limits and times of a [`Mux`](super::Mux).
///
/// ```
/// use glueberry_proto::mux;
///
/// let mut config = mux::Config::default();
/// // A serial line between small machines: at most 4 substreams from each side.
/// (config.max_substreams, config.window, config.connection_window) = (4, 4096, 8 * 4096);
/// (config.max_frame, config.ping_after) = (256, None);
/// assert!(config.check().is_ok());
/// config.connection_window -= 1;
/// assert_eq!(config.check().unwrap_err().field, "connection_window");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Substreams that each side may have open at once. 64, as in
    /// [`Config`](crate::Config::max_substreams).
    pub max_substreams: u16,
    /// Bytes that the peer may send on a substream ahead of what was
    /// [released](super::Mux::release). 128 KiB. It limits the rate of a substream to this much per
    /// round trip.
    pub window: u32,
    /// Bytes that the peer may send on all substreams ahead of what was released. 16 MiB: the
    /// windows of all substreams of both sides, so that those that are not read never stall another.
    pub connection_window: u32,
    /// The most bytes of one substream that are written before it is another one's turn. 16 KiB.
    pub max_frame: u16,
    /// Time without a byte from the peer after which it is pinged; `None`: never. 15 s.
    pub ping_after: Option<Duration>,
    /// Time for a ping to be answered, by whatever byte, and for the peer's first frame. 15 s.
    pub ping_timeout: Duration,
    /// Time for the peer to confirm that it has read everything up to the close. 3 s.
    pub close_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_substreams: 64,
            window: 128 * 1024,
            connection_window: 2 * 64 * 128 * 1024,
            max_frame: 16 * 1024,
            ping_after: Some(Duration::from_secs(15)),
            ping_timeout: Duration::from_secs(15),
            close_timeout: Duration::from_secs(3),
        }
    }
}

impl Config {
    /// Checks each field, and the relations between fields.
    ///
    /// # Errors
    ///
    /// Names the first field at fault, and why.
    pub fn check(&self) -> Result<(), ConfigError> {
        let is_zero = [
            ("max_substreams", self.max_substreams == 0),
            ("window", self.window == 0),
            ("max_frame", self.max_frame == 0),
            ("ping_after", self.ping_after.is_some_and(|after| after.is_zero())),
            ("ping_timeout", self.ping_timeout.is_zero()),
            ("close_timeout", self.close_timeout.is_zero()),
        ];
        if let Some((field, _)) = is_zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::new(field, Problem::Zero));
        }
        if self.connection_window > MAX_WINDOW {
            let problem = Problem::Unusable("a window has at most 2^31 - 1 bytes");
            return Err(ConfigError::new("connection_window", problem));
        }
        let all = 2 * u64::from(self.max_substreams) * u64::from(self.window);
        if u64::from(self.connection_window) < all {
            let problem = Problem::Unusable("the windows of all substreams must fit in it");
            return Err(ConfigError::new("connection_window", problem));
        }
        Ok(())
    }
}

/// A window never exceeds this.
pub(super) const MAX_WINDOW: u32 = i32::MAX.cast_unsigned();
