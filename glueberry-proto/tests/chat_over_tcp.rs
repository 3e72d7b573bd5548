//! The example of a chat over TCP, as two people use it: processes, their input and output, and Ctrl-C.

#![cfg(all(unix, not(target_family = "wasm")))]
#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "it runs programs")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A process that is killed with the test.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(args: &[&str], folder: &Path) -> Self {
        let mut command = Command::new(program());
        command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                sender.send(line).unwrap_or_default();
            }
        });
        Self { child, lines }
    }

    /// Returns the rest of the first line that has a text in it.
    fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LONG);
            let line = line.unwrap_or_else(|error| panic!("no `{text}`: {error}"));
            if let Some((_, rest)) = line.split_once(text) {
                return rest.to_owned();
            }
        }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

/// Builds the example, beside the test: `cargo test` builds it only if no test is chosen by name.
fn program() -> PathBuf {
    // target/PROFILE/deps/chat_over_tcp-HASH
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "-p", "glueberry-proto", "--features"]);
    cargo.args(["multiformats", "--example", "chat_over_tcp", "--target-dir"]);
    cargo.arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    folder.join("examples/chat_over_tcp")
}

#[test]
fn two_talk_and_part() {
    let folder = std::env::temp_dir().join(format!("glueberry-tcp-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let help = Command::new(program()).arg("--help").output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("Usage"));
    let mut bob = Running::start(&["--identity", "bob.key"], &folder);
    let address = bob.wait_for("to dial: ");
    let mut alice = Running::start(&["--identity", "alice.key", "--dial", &address], &folder);
    for node in [&alice, &bob] {
        node.wait_for(" is Established");
    }
    alice.say("hello, Bob");
    bob.wait_for("> hello, Bob");
    bob.say("hello, Alice");
    alice.wait_for("> hello, Alice");
    // Ctrl-C on one side; the end of input on the other, which would dial again.
    let pid = alice.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    alice.wait_for("bye");
    assert!(alice.child.wait().unwrap().success());
    drop(bob.child.stdin.take());
    bob.wait_for("bye");
    assert!(bob.child.wait().unwrap().success());
    // The same identity the next time.
    let again = Running::start(&["--identity", "bob.key"], &folder);
    let key = |text: &str| text.split('@').next().unwrap().to_owned();
    assert_eq!(key(&again.wait_for("to dial: ")), key(&address));
    std::fs::remove_dir_all(&folder).unwrap();
}

const LONG: Duration = Duration::from_secs(120);
