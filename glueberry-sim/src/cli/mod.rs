//! The command line.

mod run;
mod search;
mod single;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::run::Run;
use self::search::Search;
use crate::generate::{SECOND, Size, generate};
use crate::golden::hashes;
use crate::plan::{MAX_HOSTS, Mix, Plan};

#[derive(Debug, Parser)]
#[command(
    name = "glueberry-sim",
    about = "Runs the Glueberry core in a universe where everything goes wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs many seeds, or one, and says what was exercised.
    Run(Run),
    /// Repeats the run of a seed, or of a plan that was stored, and says how it ended.
    Replay(Source),
    /// Makes a run that fails as small as it can be, and stores its plan.
    Shrink {
        #[command(flatten)]
        source: Source,
        /// Where the plan is stored.
        #[arg(long, default_value = "shrunk.json")]
        out: PathBuf,
        /// Seconds to spend.
        #[arg(long, default_value_t = 60)]
        patience: u64,
    },
    /// Stores all that happens in a run, for tools and for people.
    Trace {
        #[command(flatten)]
        source: Source,
        /// Where to write one JSON object per line.
        #[arg(long)]
        jsonl: Option<PathBuf>,
        /// Where to write a page with a picture.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Prints the trace hashes of a few seeds of each mixture, which every platform and build gives.
    Hashes,
    /// Runs seeds of the default, hostile, calm and pipe profiles in turn until an invariant is violated.
    Search(Search),
}

/// Which run is meant.
#[derive(Debug, Args)]
struct Source {
    /// A plan that was stored; instead of a seed.
    plan: Option<PathBuf>,
    #[command(flatten)]
    shape: Shape,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What a seed is made into.
#[derive(Debug, Args)]
struct Shape {
    /// What runs are mixed from.
    #[arg(long, value_enum, default_value_t = Mix::Default)]
    profile: Mix,
    /// Simulated seconds of a run before faults stop; by default what the seed says.
    #[arg(long)]
    time: Option<u64>,
    /// Nodes of a run, 2 to 1024; by default what the seed says.
    #[arg(long, value_parser = nodes)]
    nodes: Option<usize>,
}

/// Reads how many nodes a run has. More would be left out silently.
fn nodes(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (2..=MAX_HOSTS).contains(count));
    count.ok_or_else(|| format!("a run has 2 to {MAX_HOSTS} nodes"))
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    main_from(std::env::args_os())
}

/// Runs a command line, whose first word is the program's name.
pub fn main_from(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match Cli::parse_from(words).command {
        Command::Run(run) => Ok(run.run()),
        Command::Replay(source) => single::replay(&source),
        Command::Shrink { source, out, patience } => single::shrink_to(&source, &out, patience),
        Command::Trace { source, jsonl, html } => {
            single::trace(&source, jsonl.as_deref(), html.as_deref())
        }
        Command::Hashes => {
            print_text(&hashes());
            Ok(ExitCode::SUCCESS)
        }
        Command::Search(search) => Ok(search.run()),
    };
    done.unwrap_or_else(|error| {
        print_text(&format!("{error}\n"));
        ExitCode::FAILURE
    })
}

impl Shape {
    fn plan(&self, seed: u64) -> Plan {
        let time = self.time.map(|time| time.saturating_mul(SECOND));
        generate(seed, self.profile, Size { hosts: self.nodes, time })
    }

    /// Returns the arguments that lead to the same plans.
    fn arguments(&self) -> String {
        let mut text = format!("--profile {}", crate::report::profile_name(self.profile));
        if let Some(time) = self.time {
            text.push_str(&format!(" --time {time}"));
        }
        if let Some(nodes) = self.nodes {
            text.push_str(&format!(" --nodes {nodes}"));
        }
        text
    }
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
    #[error("{path} is no plan: {error}")]
    Plan { path: String, error: serde_json::Error },
    #[error("there is no invariant named {0}")]
    UnknownInvariant(String),
    #[error("the run does not fail, so there is nothing to shrink")]
    NothingToShrink,
}

/// Writes to the standard output. A reader that has gone is no error.
fn print_text(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()));
    drop(out.flush());
}
