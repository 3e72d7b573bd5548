//! Whether a node does its work.

use std::fmt;
use std::time::{Duration, SystemTime};

use glueberry_proto::ConnectionState;
use serde::Serialize;

use crate::command::Examination;

/// The outcome of all health checks; see [`Node::health`](crate::Node::health).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::CheckName;
///
/// let health = node().await?.health().await;
/// assert!(health.is_healthy);
/// assert!(health.check(CheckName::AddressBook).is_some_and(|check| check.is_healthy));
/// println!("{}", serde_json::to_string(&health)?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether every check passes that the node depends on.
    pub is_healthy: bool,
    /// The checks, in a fixed order.
    pub checks: Vec<HealthCheck>,
    /// When they were made.
    pub at: SystemTime,
}

/// The outcome of one health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HealthCheck {
    /// What was checked.
    pub name: CheckName,
    /// Whether it passes.
    pub is_healthy: bool,
    /// What was found, for people.
    pub message: String,
    /// How long the check took.
    pub duration: Duration,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CheckName {
    /// The node's task answers.
    NodeStarted,
    /// Peers can reach the node, if it was to listen.
    HostRunning,
    /// What the application has said of peers is stored.
    AddressBook,
    /// Not every peer that should be connected is lost. The only check that does not count towards
    /// [`Health::is_healthy`]: the peers may be at fault.
    Connections,
}

impl Health {
    pub(crate) fn new(examination: Option<&Examination>, took: Duration, at: SystemTime) -> Self {
        let check = |name, result: Result<&str, String>| HealthCheck {
            name,
            is_healthy: result.is_ok(),
            message: result.map_or_else(|message| message, ToOwned::to_owned),
            duration: took,
        };
        let unknown = || Err("the node does not answer".to_owned());
        let checks = vec![
            check(
                CheckName::NodeStarted,
                examination.map_or_else(unknown, |_| Ok("node is running")),
            ),
            check(CheckName::HostRunning, examination.map_or_else(unknown, host)),
            check(CheckName::AddressBook, examination.map_or_else(unknown, book)),
            check(CheckName::Connections, examination.map_or_else(unknown, connections)),
        ];
        let counts = |check: &&HealthCheck| check.name != CheckName::Connections;
        let is_healthy = checks.iter().filter(counts).all(|check| check.is_healthy);
        Self { is_healthy, checks, at }
    }

    /// Returns the outcome of one check.
    pub fn check(&self, name: CheckName) -> Option<&HealthCheck> {
        self.checks.iter().find(|check| check.name == name)
    }
}

fn host(examination: &Examination) -> Result<&'static str, String> {
    match examination.is_listening {
        true => Ok("transport is running"),
        false => Err("no socket is left to be reached by".to_owned()),
    }
}

fn book(examination: &Examination) -> Result<&'static str, String> {
    match &examination.book_trouble {
        None => Ok("address book is accessible"),
        Some(trouble) => Err(trouble.clone()),
    }
}

fn connections(examination: &Examination) -> Result<&'static str, String> {
    use ConnectionState::{Connected, Connecting, Established, Reconnecting};
    let has = |states: &[ConnectionState]| {
        examination.peers.iter().any(|(_, status)| states.contains(&status.state))
    };
    match (has(&[Connected, Established]), has(&[Connecting, Reconnecting])) {
        (true, _) => Ok("has active connections"),
        (false, false) => Ok("no active connections"),
        (false, true) => Err("every peer that should be connected is lost".to_owned()),
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeStarted => "node_started",
            Self::HostRunning => "host_running",
            Self::AddressBook => "address_book",
            Self::Connections => "connections",
        })
    }
}

/// Writes one line for each check.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_healthy { "healthy" } else { "NOT HEALTHY" })?;
        for check in &self.checks {
            let mark = if check.is_healthy { "ok  " } else { "FAIL" };
            writeln!(f, "  {mark} {:<13} {}", check.name.to_string(), check.message)?;
        }
        Ok(())
    }
}
