//! Another implementation in a process of its own, which tells what happens to it line by line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use glueberry_tokio::Multiaddr;
use glueberry_tokio::identity::PeerId;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Somebody else's libp2p, with a small Glueberry peer on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests are to notice what is new")]
pub enum Implementation {
    /// js-libp2p, with cryptography by @noble.
    JavaScript,
    /// py-libp2p, with cryptography by pyca.
    Python,
    /// aioquic without libp2p, and session v2 as its specification says: raw QUIC from the other side.
    Aioquic,
    /// rust-libp2p with libp2p-stream.
    Rust,
}

impl Implementation {
    /// Returns what is not installed, if anything is.
    pub fn missing(self) -> Option<&'static str> {
        let (path, what) = match self {
            Self::JavaScript => ("js/node_modules/.bin/node", "npm ci in tests/interop/js"),
            Self::Python | Self::Aioquic => {
                ("py/.venv/bin/python", "python3 -m venv and pip install in tests/interop/py")
            }
            // Cargo builds it with the test.
            Self::Rust => return None,
        };
        (!folder().join(path).exists()).then_some(what)
    }

    fn command(self) -> Command {
        let (folder, program, script) = match self {
            Self::JavaScript => ("js", "node_modules/.bin/node", "peer.mjs"),
            Self::Python => ("py", ".venv/bin/python", "peer.py"),
            Self::Aioquic => ("py", ".venv/bin/python", "raw_quic.py"),
            Self::Rust => return Command::new(beside_tests("libp2p-stream-peer")),
        };
        let folder = super::other::folder().join(folder);
        let mut command = Command::new(folder.join(program));
        command.arg(script).current_dir(folder);
        command
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JavaScript => "js-libp2p",
            Self::Python => "py-libp2p",
            Self::Aioquic => "aioquic",
            Self::Rust => "rust-libp2p",
        })
    }
}

/// A running peer of another implementation; it ends with this value.
#[derive(Debug)]
pub struct Other {
    /// Its id.
    pub id: PeerId,
    /// Where it listens.
    pub address: Multiaddr,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Other {
    /// Starts one, and waits until it listens.
    pub async fn start(implementation: Implementation, args: &[String]) -> Self {
        let mut child = implementation
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next_line().await.expect("readable").expect("it says where it listens");
        let said: Value = serde_json::from_str(&line).expect("a JSON object");
        let text = |field: &str| said[field].as_str().expect("a text").to_owned();
        let id = text("id").parse().expect("a peer id");
        let address = text("address").parse().expect("an address");
        Self { id, address, lines, _child: child }
    }

    /// Waits until it tells of something.
    pub async fn until(&mut self, event: &str) -> Value {
        loop {
            let line = self.lines.next_line().await.expect("readable");
            let line = line.unwrap_or_else(|| panic!("it ended before `{event}`"));
            let said: Value = serde_json::from_str(&line).expect("a JSON object");
            if said["event"].as_str() == Some(event) {
                return said;
            }
        }
    }
}

/// Returns where cargo puts a program of this package: above the folder of its test programs.
fn beside_tests(program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program is somewhere");
    let folder = test.parent().and_then(Path::parent).expect("tests are in a folder of their own");
    folder.join(program).with_extension(std::env::consts::EXE_EXTENSION)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}
