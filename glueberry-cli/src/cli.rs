//! The arguments.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use glueberry_tokio::Multiaddr;
use glueberry_tokio::identity::PeerId;

use crate::http::HttpAddress;

/// Keys, peers, round trips, throughput, diagnosis, address books and the simulator of Glueberry.
#[derive(Debug, Parser)]
#[command(
    name = "glueberry",
    version,
    after_help = "Exit codes: 0 all went well, 1 something did not, 2 wrong arguments."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Prints one JSON value per line, for programs.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates an identity in a file, or shows the one that is there.
    Key {
        /// The file, readable by its owner alone.
        path: PathBuf,
    },
    /// Shows the peer id and the public key of an identity file, a peer id or an address.
    Id {
        /// A file, a peer id, a public key in hexadecimal, or an address that ends in /p2p/PEER.
        of: String,
    },
    /// Listens, answers `ping` and `bench`, and prints what happens, until Ctrl-C or SIGTERM.
    Listen(Listen),
    /// Connects to a peer, and says how that went.
    Dial(Dial),
    /// Measures the time to a peer and back, by encrypted messages.
    Ping(Ping),
    /// Measures the throughput to a peer that runs `glueberry listen`.
    Bench(Bench),
    /// Checks what a node needs: identity, address book, sockets, and a peer if one is named.
    Doctor(Doctor),
    /// Shows a node's peers in a table that is redrawn, by its HTTP router's `/debug`.
    Top(Top),
    /// Shows, checks, repairs an address book, or bans peers in it.
    #[command(subcommand)]
    Book(Book),
    /// Runs the simulator, whose arguments follow: `glueberry sim --help`.
    #[command(disable_help_flag = true)]
    Sim {
        /// The simulator's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Prints a script that completes this command's arguments in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page.
    Man,
}

/// Which node this is.
#[derive(Debug, Args)]
pub(crate) struct Own {
    /// The file of this node's identity, created if it is missing; without one, each run has another.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Listen {
    #[command(flatten)]
    pub(crate) own: Own,
    /// Where to listen; may be given more than once.
    #[arg(default_value = "/ip4/0.0.0.0/udp/4001/quic-v1", value_parser = address)]
    pub(crate) addresses: Vec<Multiaddr>,
    /// The file of the address book.
    #[arg(long, value_name = "FILE")]
    pub(crate) book: Option<PathBuf>,
    /// Serves /health, /ready, /metrics and /debug here, such as 127.0.0.1:9090.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Dial {
    #[command(flatten)]
    pub(crate) to: Target,
}

/// The peer that is meant.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The peer's address, ending in /p2p/PEER.
    #[arg(value_parser = address)]
    pub(crate) address: Multiaddr,
    #[command(flatten)]
    pub(crate) own: Own,
    /// How long to wait for the session.
    #[arg(long, default_value = "30s", value_parser = time)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Ping {
    #[command(flatten)]
    pub(crate) to: Target,
    /// How many.
    #[arg(long, short, default_value_t = 5)]
    pub(crate) count: u32,
    /// Time from one to the next.
    #[arg(long, short, default_value = "1s", value_parser = time)]
    pub(crate) interval: Duration,
    /// How long to wait for each answer before it counts as lost.
    #[arg(long, default_value = "5s", value_parser = time)]
    pub(crate) patience: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) to: Target,
    /// Bytes of each message.
    #[arg(long, default_value_t = 65536)]
    pub(crate) size: usize,
    /// How long to send.
    #[arg(long, default_value = "5s", value_parser = time)]
    pub(crate) duration: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The file of an identity to check.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The file of an address book to check.
    #[arg(long, value_name = "FILE")]
    pub(crate) book: Option<PathBuf>,
    /// Where a node is to listen.
    #[arg(long, default_value = "/ip4/0.0.0.0/udp/0/quic-v1", value_parser = address)]
    pub(crate) listen: Multiaddr,
    /// A peer to connect to, its address ending in /p2p/PEER.
    #[arg(value_parser = address)]
    pub(crate) peer: Option<Multiaddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Where the node serves HTTP: HOST:PORT, or a URL such as http://HOST:PORT/PATH.
    #[arg(default_value = "127.0.0.1:9090")]
    pub(crate) address: HttpAddress,
    /// Prints the table once, and ends.
    #[arg(long)]
    pub(crate) once: bool,
    /// Time from one table to the next.
    #[arg(long, short, default_value = "1s", value_parser = time)]
    pub(crate) interval: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Book {
    /// Prints the peers in an address book. It is only read, so a node may have it open.
    Show {
        /// The file.
        path: PathBuf,
    },
    /// Checks that the file is an address book and that all its entries are of use.
    Check {
        /// The file.
        path: PathBuf,
    },
    /// Writes the book anew without the entries that cannot be read. The file as it was is kept beside
    /// it, with `.before-repair` behind its name.
    Repair {
        /// The file.
        path: PathBuf,
    },
    /// Bans a peer.
    Ban {
        /// The file.
        path: PathBuf,
        /// The peer.
        #[arg(value_parser = peer)]
        peer: PeerId,
        /// For how long; without it, for ever.
        #[arg(long = "for", value_name = "TIME", value_parser = time)]
        duration: Option<Duration>,
    },
    /// Lifts the ban of a peer.
    Unban {
        /// The file.
        path: PathBuf,
        /// The peer.
        #[arg(value_parser = peer)]
        peer: PeerId,
    },
}

fn address(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|error| {
        format!(
            "{error}; an address is such as /ip4/192.0.2.1/udp/4001/quic-v1, to dial one with /p2p/ and \
             the peer's id behind it"
        )
    })
}

fn peer(text: &str) -> Result<PeerId, String> {
    text.parse().map_err(|error| format!("{error}; a peer's id begins with 12D3KooW"))
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a time is such as 250ms, 30s or \"1h 30m\""))
}
