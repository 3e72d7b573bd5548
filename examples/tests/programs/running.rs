//! Programs as processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

pub(super) const LONG: Duration = Duration::from_secs(120);

/// Each program's name and path.
pub(super) const PROGRAMS: &[(&str, &str)] = &[
    ("cluster", env!("CARGO_BIN_EXE_cluster")),
    ("file", env!("CARGO_BIN_EXE_file")),
    ("from_env", env!("CARGO_BIN_EXE_from_env")),
    ("integration", env!("CARGO_BIN_EXE_integration")),
    ("on_smol", env!("CARGO_BIN_EXE_on_smol")),
    ("rpc", env!("CARGO_BIN_EXE_rpc")),
    ("traces", env!("CARGO_BIN_EXE_traces")),
];

fn program(name: &str) -> Command {
    let (_, path) = PROGRAMS.iter().find(|it| it.0 == name).unwrap();
    Command::new(path)
}

/// Runs a program without arguments, whose output nobody reads, to its end. Returns what it complains of.
pub(super) async fn unread(name: &str, folder: &Path) -> String {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = program(name);
    command.current_dir(folder).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn().unwrap();
    let ended = timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// A folder that is removed with the test.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("glueberry-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A program that runs, and is killed with the test.
pub(super) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(super) fn start(name: &str, folder: &Path, args: &[&str]) -> Self {
        let mut command = program(name);
        command.args(args).current_dir(folder).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns the rest of the first line that has a text in it.
    pub(super) async fn wait_for(&mut self, text: &str) -> String {
        let wait = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some((_, rest)) = line.split_once(text) {
                    return rest.to_owned();
                }
            }
            panic!("it ended without `{text}`");
        };
        timeout(LONG, wait).await.unwrap_or_else(|_| panic!("no `{text}`"))
    }

    /// Sends a signal, as Ctrl-C and a container's end do; returns whether it ended well.
    pub(super) async fn signal(&mut self, signal: &str) -> bool {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        self.ends_well().await
    }

    pub(super) async fn ends_well(&mut self) -> bool {
        timeout(LONG, self.child.wait()).await.unwrap().unwrap().success()
    }
}

/// Runs a program to its end; returns whether it ended well, and what it printed.
pub(super) async fn output(name: &str, folder: &Path, args: &[&str]) -> (bool, String) {
    let mut command = program(name);
    command.args(args).current_dir(folder).kill_on_drop(true);
    let output = timeout(LONG, command.output()).await.unwrap().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}
