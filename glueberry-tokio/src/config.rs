//! The configuration of an async node.

use std::time::Duration;

use glueberry_proto::{ConfigError, Problem, duration};
use serde::{Deserialize, Serialize};

/// What a node may do and hold: the core's limits and those of the async side.
///
/// Set fields, then pass it to [`Builder::config`](crate::Builder::config). It is checked when the
/// node is built and cannot change afterwards. The value in the text of a field, such as `5 s`, is its
/// default.
///
/// It can be read from a file through serde: a field that is missing has its default, an unknown
/// one is an error, and times are written like `1m 30s` or `250ms`. With the feature `config`,
/// `ConfigLoader` reads it from files and environment variables, with sizes such as `1MiB`.
///
/// ```
/// use glueberry_tokio::{Config, Delivery};
/// use std::time::Duration;
///
/// let text = r#"{ "keep_alive": "2s", "delivery": "drop-newest", "core": { "max_dials": 4 } }"#;
/// let config: Config = serde_json::from_str(text)?;
/// assert_eq!(config.keep_alive, Duration::from_secs(2));
/// assert_eq!(config.delivery, Delivery::DropNewest);
/// assert_eq!(config.event_buffer, 100, "a default");
/// assert!(config.check().is_ok());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The core's limits and times.
    pub core: glueberry_proto::Config,
    /// What happens to a received message if its reader's queue is full. Lossless.
    pub delivery: Delivery,
    /// Whether sending never waits for a queue to drain. False. If true, messages that are sent faster
    /// than the peer takes them are held without a limit.
    pub disable_backpressure: bool,
    /// Time for which the statistics of a disconnected peer are kept. 24 h.
    #[serde(with = "duration")]
    pub stats_retention: Duration,
    /// Messages that wait for the application in [`Messages`](crate::Messages), and in each
    /// [`StreamHandle`](crate::StreamHandle), before sessions wait. 1000.
    pub message_buffer: usize,
    /// Events that wait for one subscriber before it lags. 100.
    pub event_buffer: usize,
    /// Silence after which a connection is probed. 5 s.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// Intervals of [`keep_alive`](Self::keep_alive) without an answer after which a connection is lost. 3.
    pub lost_after: u32,
    /// Bytes that a peer may send ahead of the reader, per substream. 512 KiB.
    pub stream_window: u32,
    /// Bytes sent on a connection that may be unacknowledged. 8 MiB.
    pub send_window: u64,
    /// Incoming connections whose transport handshake is under way at one time. 64. Further ones wait.
    pub max_incoming: usize,
    /// Connections of strangers that are accepted per minute from one network, an IPv4 /24 or an IPv6
    /// /56. 240. Not counted are peers in the address book, protected peers, and this machine itself.
    pub strangers_per_minute: usize,
}

/// What happens to a received message if its reader's queue is full.
///
/// ```
/// use glueberry_tokio::{Config, Delivery};
///
/// let mut config = Config::default();
/// assert_eq!(config.delivery, Delivery::Lossless);
/// config.delivery = Delivery::DropNewest;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Delivery {
    /// It waits, and flow control slows its sender: nothing is lost.
    #[default]
    Lossless,
    /// It is dropped, counted, and reported by
    /// [`Event::MessagesDropped`](crate::Event::MessagesDropped). A slow reader slows no sender down.
    DropNewest,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            core: glueberry_proto::Config::default(),
            delivery: Delivery::Lossless,
            disable_backpressure: false,
            stats_retention: Duration::from_secs(24 * 60 * 60),
            message_buffer: 1000,
            event_buffer: 100,
            keep_alive: Duration::from_secs(5),
            lost_after: 3,
            stream_window: 512 * 1024,
            send_window: 8 * 1024 * 1024,
            max_incoming: 64,
            strangers_per_minute: 240,
        }
    }
}

impl Config {
    /// Checks that the fields make sense alone and together.
    ///
    /// # Errors
    ///
    /// The first field that does not, and why.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.core.check()?;
        let counts = [
            ("message_buffer", self.message_buffer),
            ("event_buffer", self.event_buffer),
            ("max_incoming", self.max_incoming),
            ("strangers_per_minute", self.strangers_per_minute),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::new(field, Problem::Zero));
        }
        if self.keep_alive.is_zero() {
            return Err(ConfigError::new("keep_alive", Problem::Zero));
        }
        if self.lost_after < 2 {
            let problem = Problem::Unusable("at least two silent intervals are needed");
            return Err(ConfigError::new("lost_after", problem));
        }
        let silence = self.keep_alive.checked_mul(self.lost_after);
        if silence.is_none_or(|silence| silence > LONGEST_SILENCE) {
            let problem = Problem::Unusable("times `lost_after` it is more than a year");
            return Err(ConfigError::new("keep_alive", problem));
        }
        if self.stream_window < 16 * 1024 {
            return Err(ConfigError::new("stream_window", Problem::Unusable("below 16 KiB")));
        }
        if self.send_window < 16 * 1024 {
            return Err(ConfigError::new("send_window", Problem::Unusable("below 16 KiB")));
        }
        Ok(())
    }

    /// Returns the configuration of the core, with the switches of this side applied.
    pub(crate) fn core(&self) -> glueberry_proto::Config {
        let mut core = self.core.clone();
        if self.disable_backpressure {
            (core.high_watermark, core.low_watermark) = (usize::MAX, usize::MAX - 1);
            (core.high_watermark_bytes, core.low_watermark_bytes) = (usize::MAX, usize::MAX - 1);
        }
        core
    }
}

/// Longer silence is nothing that a timer of QUIC can be trusted with.
const LONGEST_SILENCE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_field_is_named() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 12] = [
            ("message_buffer", |c| c.message_buffer = 0),
            ("event_buffer", |c| c.event_buffer = 0),
            ("max_incoming", |c| c.max_incoming = 0),
            ("strangers_per_minute", |c| c.strangers_per_minute = 0),
            ("keep_alive", |c| c.keep_alive = Duration::ZERO),
            ("keep_alive", |c| c.keep_alive = Duration::MAX),
            ("keep_alive", |c| c.lost_after = u32::MAX),
            ("lost_after", |c| c.lost_after = 1),
            ("stream_window", |c| c.stream_window = 1),
            ("max_substreams", |c| c.core.max_substreams = usize::MAX),
            ("send_window", |c| c.send_window = 1),
            ("max_dials", |c| c.core.max_dials = 0),
        ];
        for (field, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            assert_eq!(config.check().unwrap_err().field, field);
        }
    }

    /// However long they are, these are only waited for.
    #[test]
    fn waits_may_be_endless() {
        let mut config = Config { stats_retention: Duration::MAX, ..Config::default() };
        config.core.cooldown = Duration::MAX;
        assert!(config.check().is_ok());
    }
}
