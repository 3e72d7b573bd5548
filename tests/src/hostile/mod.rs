//! Attackers on real sockets, from the wire up, against a node in its default configuration.
//!
//! `cargo test -p glueberry-tests --test hostile` plays each script against a node over raw QUIC, one
//! over libp2p's QUIC and one over libp2p's TCP; behind `--`, words choose scripts by their names, and
//! `--share N` some of them by the commit. While a script plays, an
//! honest peer exchanges numbered messages with the victim at a fixed pace. Checked are
//!
//! - the exact reason or event that the victim reports, or that it reports none;
//! - that the attacker is cut off, or its substream is, or that it is contained;
//! - that the honest peer loses nothing, and that the median of its rates in windows under attack
//!   is at least 80 % of that in the windows between attacks;
//! - that another honest peer gets Established meanwhile;
//! - that what peers make the victim hold stays within the account, and is given back.
//!
//! The pace is far below what a node can carry, so a victim that is merely busy passes, and one that
//! is stuck does not. Attackers run on the same machine: how much is left at full load would say
//! more about the scheduler than about the victim.

mod attacker;
mod frames;
mod host;
mod script;
mod scripts;
mod stage;
mod tls;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::script::{ALL, Script};
use self::stage::{Row, Stage};

/// Which scripts to play.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "for one program")]
pub enum Choice {
    /// Those whose names contain one of the words; all if there are none.
    Words(Vec<String>),
    /// So many, over one transport each, beginning with one that a number says.
    Share {
        /// How many.
        count: usize,
        /// Where to begin.
        from: usize,
    },
}

impl Choice {
    /// Returns whether the script with this number, of all, is chosen.
    fn has(&self, name: &str, number: usize, all: usize) -> bool {
        match self {
            Self::Words(words) => {
                words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
            }
            Self::Share { count, from } => (number + all - from % all) % all < *count,
        }
    }
}

/// Plays scripts, and prints the table as it comes about. Returns how many have failed.
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
pub async fn play(choice: &Choice) -> usize {
    let all = ALL.iter().map(|script| script.fabrics().count()).sum();
    let mut number = 0;
    let turn = Arc::new(Semaphore::new(AT_ONE_TIME));
    let mut running = JoinSet::new();
    for (at, script) in ALL.iter().copied().enumerate() {
        for fabric in script.fabrics() {
            number += 1;
            if !choice.has(&format!("{} {fabric}", script.name), number - 1, all) {
                continue;
            }
            let turn = turn.clone();
            running.spawn(async move {
                let _turn = turn.acquire_owned().await.expect("never closed");
                let began = Instant::now();
                let played = tokio::spawn(Stage::play(script, fabric)).await;
                let row = played.map_err(|panic| panic.to_string());
                (at, fabric, began.elapsed(), row)
            });
        }
    }
    let mut rows = running.join_all().await;
    rows.sort_by_key(|(at, fabric, ..)| (*at, fabric.to_string()));
    let mut failed = 0;
    println!("\n{:<30} {:<9}{}", "script", "over", Row::HEADER);
    for (at, fabric, took, row) in &rows {
        print!("{:<30} {:<9}", ALL[*at].name, fabric.to_string());
        match row {
            Ok(row) => println!("{row} ({:.1} s)", took.as_secs_f64()),
            Err(why) => {
                failed += 1;
                println!("FAILED: {why}");
            }
        }
    }
    println!("{} scripts, {failed} failed", rows.len());
    failed
}

/// Waits for something, and fails rather than hangs.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Scripts that play at one time. Most of what they do is to wait.
const AT_ONE_TIME: usize = 8;
/// How long anything may take on a busy machine that takes moments on an idle one.
const PATIENCE: Duration = Duration::from_secs(100);
