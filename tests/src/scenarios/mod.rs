//! The list of scenarios: what must hold over every fabric.

mod bans;
mod connect;
mod faults;
mod handshake;
mod messages;

use std::future::Future;
use std::pin::Pin;

use glueberry_tokio::Config;

use crate::fabric::Ground;
use crate::party::{Party, STREAM, establish};

/// One scenario: a name, and what happens.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// What it is called in the table.
    pub name: &'static str,
    /// Runs it; panics if something is not as it must be.
    pub run: fn(Stage) -> Run,
}

/// A scenario that runs.
pub type Run = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// How a scenario went that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the table shows each")]
pub enum Verdict {
    /// All was as it must be.
    Passed,
    /// It has no meaning on this fabric, for this reason.
    NotApplicable(&'static str),
}

/// What a scenario runs over.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the runner makes it")]
pub struct Stage {
    /// What the dialling node runs over.
    pub a: Ground,
    /// What the other runs over.
    pub b: Ground,
}

impl Stage {
    /// Starts both nodes.
    pub async fn pair(self, config: Config, streams: &[&str]) -> (Party, Party) {
        let a = Party::start(self.a, config.clone(), streams).await;
        let b = Party::start(self.b, config, streams).await;
        (a, b)
    }

    /// Starts both nodes and takes them through the handshake.
    pub async fn established(self, config: Config) -> (Party, Party) {
        let (mut a, mut b) = self.pair(config, &[STREAM]).await;
        establish(&mut a, &mut b, &[STREAM]).await;
        (a, b)
    }
}

/// Lists scenarios: those that only pass or panic, and those that tell.
macro_rules! scenarios {
    ($($module:ident: $($name:ident),+;)+) => {
        /// Every scenario.
        pub const ALL: &[Scenario] = &[
            $($(Scenario {
                name: stringify!($name),
                run: |stage| Box::pin(async move { $module::$name(stage).await.into() }),
            },)+)+
        ];
    };
}

scenarios! {
    connect: handshake_and_first_message, both_dial, nobody_is_there, somebody_else_answers,
        no_common_profile, v1_go_profile, session_says_what_it_gives,
        downgrade_is_refused,
        disconnect_and_connect_again, many_peers_at_once;
    handshake: wrong_key, rejected, handshake_timeout, nothing_said_after_established,
        named_stream_before_prepare, stream_that_is_not_prepared;
    messages: all_sizes, both_send_first, slow_reader, unread_streams, many_streams,
        big_messages_both_ways, oversize_is_refused, oversize_from_the_peer, stream_handle, batches, shutdown_drain,
        both_leave;
    faults: quiet_session_lives, killed_and_returned, returns_and_dials, reconnects_by_itself,
        stalled_peer_is_noticed, datagrams_are_lost, long_datagrams_are_lost_at_the_end, end_is_noticed;
    bans: banned_in_each_state, banned_stranger, ban_expires;
}

impl From<()> for Verdict {
    fn from((): ()) -> Self {
        Self::Passed
    }
}
