//! Sends a file to a peer, which has it whole and checked when this ends. A transfer that was broken
//! off goes on where it was.
//!
//! ```text
//! cargo run --release -p glueberry-examples --bin file -- receive --into FOLDER
//! cargo run --release -p glueberry-examples --bin file -- send PATH --to MULTIADDR
//! ```
//!
//! Each request on the stream `file` is a JSON header, a zero byte, and data.

use std::io::{self, IsTerminal, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use glueberry_examples::stopped;
use glueberry_tokio::identity::{self, PeerId};
use glueberry_tokio::{Handshake, Multiaddr, Node, Request, RequestLimits, Requester};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Sends a file to a peer, or receives files of peers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The file that holds this side's identity; created if it is missing.
    #[arg(long, global = true, default_value = "file.key")]
    identity: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Receives files until Ctrl-C or SIGTERM.
    Receive {
        /// The folder for received files.
        #[arg(long, default_value = ".")]
        into: PathBuf,
        /// Where to listen.
        #[arg(long, default_value = "/ip4/127.0.0.1/udp/0/quic-v1")]
        listen: Multiaddr,
        /// The only peer that may send; any peer if it is missing.
        #[arg(long)]
        from: Option<PeerId>,
    },
    /// Sends a file, and ends when the peer has it.
    Send {
        /// The file.
        path: PathBuf,
        /// The receiver's address, ending in /p2p/PEER.
        #[arg(long)]
        to: Multiaddr,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Header {
    /// What is to come. The answer is a `Have`.
    Offer(Offer),
    /// The data that belong at this place. The answer is empty.
    Chunk { sha256: String, offset: u64 },
    /// That was all. The answer is empty, and the receiver's word that it has the file whole.
    Done(Offer),
}

#[derive(Clone, Serialize, Deserialize)]
struct Offer {
    name: String,
    size: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Have {
    bytes: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Cli { command, identity } = Cli::parse();
    let stopped = stopped()?;
    let identity = identity::load_or_create(identity)?;
    let builder = Node::builder(identity).streams(["file"]);
    let (node, receive) = match &command {
        Command::Receive { listen, from, .. } => {
            let handshake = match from {
                Some(peer) => Handshake::accept_only([*peer]),
                None => Handshake::accept_all(),
            };
            (builder.listen(listen.clone()).handshake(handshake).build().await?, true)
        }
        Command::Send { .. } => (builder.handshake(Handshake::accept_all()).build().await?, false),
    };
    let result = tokio::select! {
        result = run(&node, command) => result,
        () = stopped => match receive {
            true => Ok(()),
            false => Err("interrupted: send again to go on".into()),
        },
    };
    node.shutdown().await;
    result
}

async fn run(node: &Node, command: Command) -> Result<()> {
    let (requester, mut incoming) = node.requests("file", RequestLimits::default())?;
    match command {
        Command::Receive { into, .. } => {
            tokio::fs::create_dir_all(&into).await?;
            for address in node.dial_addrs() {
                say(&format!("receiving; elsewhere: send PATH --to {address}"));
            }
            while let Some(request) = incoming.recv().await {
                let served = serve(&into, &request).await.map_err(|error| error.to_string());
                // In a task: a sender that reads no answers, or has gone, holds up no other.
                tokio::spawn(async move {
                    let answered = match served {
                        Ok(response) => request.respond(response).await,
                        Err(error) => request.fail(error).await,
                    };
                    if let Err(error) = answered {
                        say(&format!("not answered: {error:#}"));
                    }
                });
            }
            Ok(())
        }
        Command::Send { path, to } => {
            let peer = node.dial(to).await?;
            node.wait_established(peer).await?;
            send(&requester, peer, &path).await
        }
    }
}

// ---- sending ------------------------------------------------------------------------------------

async fn send(requester: &Requester, peer: PeerId, path: &Path) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("the path names no file")?;
    let (size, sha256) = digest(path).await?;
    let offer = Offer { name: name.to_owned(), size, sha256: sha256.clone() };
    let ask = async |header: &Header, data: &[u8]| {
        let mut message = serde_json::to_vec(header)?;
        message.push(0);
        message.extend_from_slice(data);
        Ok::<_, Box<dyn std::error::Error>>(requester.request(peer, message, PATIENCE).await?)
    };
    let Have { bytes } = serde_json::from_slice(&ask(&Header::Offer(offer.clone()), &[]).await?)?;
    if bytes > 0 {
        say(&format!("the peer has {bytes} of {size} bytes already"));
    }
    let mut progress = Progress::new(size);
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(bytes)).await?;
    let (mut offset, mut buffer) = (bytes, vec![0; CHUNK]);
    while offset < size {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            return Err("the file has become shorter".into());
        }
        ask(&Header::Chunk { sha256: sha256.clone(), offset }, &buffer[..count]).await?;
        offset += u64::try_from(count)?;
        progress.show(offset);
    }
    ask(&Header::Done(offer), &[]).await?;
    say(&format!("the peer has {name}, {size} bytes, checked"));
    Ok(())
}

/// Returns the size and the hash of a file.
async fn digest(path: &Path) -> Result<(u64, String)> {
    let file = File::open(path).await;
    let mut file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            let hash = hasher.finalize();
            return Ok((size, hash.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        hasher.update(&buffer[..count]);
        size += u64::try_from(count)?;
    }
}

// ---- receiving ----------------------------------------------------------------------------------

async fn serve(into: &Path, request: &Request) -> Result<Vec<u8>> {
    let end = request.data.iter().position(|byte| *byte == 0).ok_or("no header")?;
    let (header, data) = (&request.data[..end], &request.data[end + 1..]);
    match serde_json::from_slice(header)? {
        Header::Offer(offer) => {
            check_name(&offer.name)?;
            let part = part(into, &offer.sha256)?;
            let bytes = tokio::fs::metadata(&part).await.map_or(0, |part| part.len());
            let bytes = if bytes > offer.size { 0 } else { bytes };
            let mut options = OpenOptions::new();
            let file = options.create(true).write(true).truncate(false).open(part).await?;
            file.set_len(bytes).await?;
            Ok(serde_json::to_vec(&Have { bytes })?)
        }
        Header::Chunk { sha256, offset } => {
            let mut file = OpenOptions::new().write(true).open(part(into, &sha256)?).await?;
            if file.metadata().await?.len() != offset {
                return Err("this is not the next chunk".into());
            }
            file.seek(SeekFrom::Start(offset)).await?;
            file.write_all(data).await?;
            file.flush().await?;
            Ok(Vec::new())
        }
        Header::Done(offer) => {
            check_name(&offer.name)?;
            let part = part(into, &offer.sha256)?;
            if digest(&part).await? != (offer.size, offer.sha256) {
                tokio::fs::remove_file(&part).await?;
                return Err("the file differs from what was offered: send it again".into());
            }
            File::open(&part).await?.sync_all().await?;
            let path = free_name(into, &offer.name)?;
            tokio::fs::rename(&part, &path).await?;
            say(&format!("{} from {}", path.display(), request.peer));
            Ok(Vec::new())
        }
    }
}

/// A name of a file, and nothing that leads elsewhere.
fn check_name(name: &str) -> Result<()> {
    let mut parts = Path::new(name).components();
    let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !is_plain || name.starts_with('.') || name.contains(['/', '\\', ':', '\0']) {
        return Err(format!("`{}` is no name of a file", name.escape_debug()).into());
    }
    Ok(())
}

/// Where an incomplete file is kept: by its hash, so that only the same file goes on there.
fn part(into: &Path, sha256: &str) -> Result<PathBuf> {
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("no SHA-256".into());
    }
    Ok(into.join(format!(".{sha256}.part")))
}

/// Returns a path at which there is nothing yet.
fn free_name(into: &Path, name: &str) -> Result<PathBuf> {
    let numbered = |number| match number {
        0 => into.join(name),
        _ => into.join(format!("{number}-{name}")),
    };
    let mut paths = (0..1000).map(numbered);
    Ok(paths.find(|path| !path.exists()).ok_or("there are too many files of this name")?)
}

// ---- talking ------------------------------------------------------------------------------------

struct Progress {
    size: u64,
    shown_at: Option<Instant>,
}

impl Progress {
    fn new(size: u64) -> Self {
        Self { size, shown_at: None }
    }

    #[expect(clippy::print_stderr, reason = "an example talks to a person")]
    fn show(&mut self, done: u64) {
        let is_over = done == self.size;
        let is_due = self.shown_at.is_none_or(|at| at.elapsed() > Duration::from_millis(100));
        if !io::stderr().is_terminal() || !(is_due || is_over) {
            return;
        }
        self.shown_at = Some(Instant::now());
        let percent = (done.saturating_mul(100) / self.size.max(1)).min(100);
        let filled = usize::try_from(percent / 4).unwrap_or_default();
        eprint!("\r[{:<25}] {percent:3} %  {done} bytes", "#".repeat(filled));
        if is_over {
            eprintln!();
        }
    }
}

fn say(text: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

const CHUNK: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
