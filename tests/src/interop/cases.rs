//! The list of exchanges, and how each goes.

use std::fmt;

use glueberry_tokio::proto::ReconnectPolicy;
use glueberry_tokio::{Config, ConnectionState, Profile};

use super::greeter::{Finalize, greet};
use super::other::{Implementation, Other};
use super::v2;
use crate::fabric::Fabric;
use crate::party::{Party, STREAM, pause};

/// One exchange with another implementation.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the runner tells each field")]
pub struct Case {
    /// With whom.
    pub with: Implementation,
    /// What the node here runs over.
    pub over: Fabric,
    /// What is spoken.
    pub profile: Profile,
    /// Whether the other dials.
    pub is_dialled: bool,
    /// What is peculiar about the other.
    pub habit: Habit,
}

/// Something that Go nodes do and that a node must put up with, or what is peculiar about a peer of v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests are to notice what is new")]
pub enum Habit {
    /// None.
    None,
    /// Opens the handshake substream only when its application says something.
    LateHandshake,
    /// Never ends its half of the handshake substream.
    NeverCloses,
    /// Sends encrypted messages before its Complete.
    DataBeforeComplete,
    /// Says Complete when this side is Established already.
    LateComplete,
    /// Resets a second substream of a name, with what is in it.
    ResetsSecond,
    /// Opens a named stream with no handshake at all.
    NoHandshake,
    /// Ends the session itself (v2).
    Leaves,
    /// Binds its session to nothing, as a node without TLS's exporter (v2).
    NoExporter,
    /// Binds its session to another connection than the one that it is on (v2).
    OtherExporter,
}

impl Habit {
    const OF_GO: [Self; 6] = [
        Self::LateHandshake,
        Self::NeverCloses,
        Self::DataBeforeComplete,
        Self::LateComplete,
        Self::ResetsSecond,
        Self::NoHandshake,
    ];
}

/// Lists every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let fabrics = [Fabric::Noise, Fabric::Quic, Fabric::RawQuic];
    for profile in [Profile::V1, Profile::V1Go] {
        for over in fabrics {
            for with in [Implementation::JavaScript, Implementation::Rust] {
                for is_dialled in [false, true] {
                    cases.push(Case { with, over, profile, is_dialled, habit: Habit::None });
                }
            }
        }
    }
    for profile in [Profile::V1, Profile::V1Go] {
        for is_dialled in [false, true] {
            let (with, over) = (Implementation::Python, Fabric::Noise);
            cases.push(Case { with, over, profile, is_dialled, habit: Habit::None });
        }
    }
    cases.extend(v2::all());
    for habit in Habit::OF_GO {
        for over in fabrics {
            if habit == Habit::ResetsSecond && over.is_datagrams() {
                // js-libp2p's QUIC waits for a read to end before it can refuse to read, so it
                // resets one half only, which no Go node does.
                continue;
            }
            let (with, profile) = (Implementation::JavaScript, Profile::V1Go);
            cases.push(Case { with, over, profile, is_dialled: true, habit });
        }
    }
    cases
}

impl Case {
    /// Runs it, and returns what is worth telling; panics if something is not as it must be.
    pub async fn run(self) -> String {
        let mut config = Config::default();
        config.core.reconnect = ReconnectPolicy::never();
        if self.profile == Profile::V2 {
            config.core.profiles = vec![Profile::V2];
            let party = Party::start(self.over, config, &v2::STREAMS).await;
            let other = self.start(&party).await;
            return v2::run(self, party, other).await;
        }
        let mut party = Party::start(self.over, config, &[STREAM]).await;
        let mut other = self.start(&party).await;
        if !self.is_dialled {
            let address = other.address.clone();
            party.node.add_peer(other.id, [address]).await.expect("added");
            party.node.connect(other.id).await.expect("connected");
        }
        party.wait_for(other.id, ConnectionState::Connected).await;
        let finalize = match self.habit {
            Habit::LateComplete => Finalize::AtOnce,
            _ => Finalize::AfterComplete,
        };
        greet(&mut party, other.id, finalize, &[STREAM]).await;
        match self.habit {
            Habit::LateComplete => self.with_late_complete(&mut party, &mut other).await,
            Habit::ResetsSecond => with_reset(&mut party, &mut other).await,
            _ => self.plainly(&mut party, &mut other).await,
        }
        party.node.disconnect(other.id).await.expect("disconnected");
        other.until("closed").await;
        String::new()
    }

    async fn plainly(self, party: &mut Party, other: &mut Other) {
        other.until("established").await;
        let first = match self.habit {
            Habit::None if self.is_dialled => Some("first"),
            Habit::DataBeforeComplete => Some("early"),
            Habit::NoHandshake => Some("unannounced"),
            _ => None,
        };
        if let Some(first) = first {
            assert_eq!(party.receive().await.data, first);
        }
        echoes(party, other).await;
    }

    async fn with_late_complete(self, party: &mut Party, other: &mut Other) {
        echoes(party, other).await;
        other.until("established").await;
        pause(100).await;
        assert_eq!(party.node.connection_state(other.id), ConnectionState::Established);
        echoes(party, other).await;
    }

    async fn start(self, party: &Party) -> Other {
        let transport = if self.over.is_datagrams() { "quic" } else { "tcp" };
        let profile = match self.profile {
            Profile::V2 => "v2",
            Profile::V1Go => "v1-go",
            _ => "v1",
        };
        let habit = self.habit.to_string();
        let mut args: Vec<String> =
            ["--transport", transport, "--profile", profile, "--habit", &habit]
                .map(str::to_owned)
                .to_vec();
        if self.is_dialled {
            args.extend(["--dial".to_owned(), format!("{}/p2p/{}", party.address(), party.id())]);
        }
        Other::start(self.with, &args).await
    }
}

/// Messages of all sizes go there and come back.
async fn echoes(party: &mut Party, other: &Other) {
    for (fill, size) in (0_u8..).zip([0, 1, 1024, 1024 * 1024]) {
        party.node.send(other.id, STREAM, vec![fill; size]).await.expect("sent");
        let echo = party.receive().await;
        assert_eq!((echo.peer, echo.stream()), (other.id, STREAM));
        assert!(echo.data == vec![fill; size], "{size} bytes came back as {}", echo.data.len());
    }
}

/// What went out on the substream that was reset goes out again on the peer's.
async fn with_reset(party: &mut Party, other: &mut Other) {
    other.until("established").await;
    for number in 0..10_u8 {
        party.node.send(other.id, STREAM, vec![number; 100]).await.expect("sent");
    }
    other.until("reset").await;
    assert_eq!(party.receive().await.data, "mine");
    for number in 0..10_u8 {
        assert_eq!(party.receive().await.data, vec![number; 100]);
    }
    echoes(party, other).await;
}

impl fmt::Display for Habit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::LateHandshake => "late-handshake",
            Self::NeverCloses => "never-closes",
            Self::DataBeforeComplete => "data-before-complete",
            Self::LateComplete => "late-complete",
            Self::ResetsSecond => "resets-second",
            Self::NoHandshake => "no-handshake",
            Self::Leaves => "leaves",
            Self::NoExporter => "no-exporter",
            Self::OtherExporter => "other-exporter",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = match self.profile {
            Profile::V2 => "v2",
            Profile::V1Go => "v1-go",
            _ => "v1",
        };
        let transport = if self.over.is_datagrams() { "quic" } else { "tcp" };
        let ours = match self.over {
            Fabric::RawQuic => "raw QUIC",
            _ => "libp2p",
        };
        let dialler = if self.is_dialled { "they dial" } else { "we dial" };
        write!(f, "{:<11} {transport:<5} {profile:<6} {ours:<9} {dialler:<10}", self.with)?;
        match self.habit {
            Habit::None => Ok(()),
            habit => write!(f, "{habit}"),
        }
    }
}
