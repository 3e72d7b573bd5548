//! Runs the command as a person and a program do.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Config, Handshake, Node};
use serde_json::{Value, json};

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("glueberry-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glueberry"));
    command.args(args).current_dir(folder);
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

/// Returns the standard output of a command that must succeed.
fn text(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the lines of a command that must succeed, as JSON.
fn json_of(folder: &Path, args: &[&str]) -> Vec<Value> {
    let args = [args, &["--json"]].concat();
    text(folder, &args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the exit code and what is said of the error.
fn failure(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = run(folder, args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// `glueberry listen`, killed with the test.
struct Listener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Listener {
    fn start(folder: &Path, args: &[&str]) -> Self {
        let listen = ["listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--json"];
        let mut command = command(folder, &[&listen, args].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns a field of the next event of a kind.
    fn wait_for(&mut self, event: &str, field: &str) -> String {
        loop {
            let line = self.lines.next().expect("it runs").unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            if value["event"] == event {
                return value[field].as_str().unwrap().to_owned();
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn keys_are_created_once_and_shown_in_every_form() {
    let folder = Folder::new("key");
    let created = json_of(&folder.0, &["key", "own.key"]);
    assert_eq!(created[0]["created"], true);
    let again = json_of(&folder.0, &["key", "own.key"]);
    assert_eq!(
        (&again[0]["created"], &again[0]["peer_id"]),
        (&false.into(), &created[0]["peer_id"])
    );
    let (peer, key) = (created[0]["peer_id"].as_str(), created[0]["public_key"].as_str());
    let address = format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{}", peer.unwrap());
    for of in ["own.key", peer.unwrap(), key.unwrap(), &address] {
        let shown = json_of(&folder.0, &["id", of]);
        assert_eq!(shown[0]["peer_id"].as_str(), peer, "{of}");
    }
    let (code, error) = failure(&folder.0, &["id", "nonsense"]);
    assert_eq!(code, 1);
    assert!(error.contains("is no file, peer id, public key or address"), "{error}");
    let (code, error) = failure(&folder.0, &["id", "/ip4/127.0.0.1/udp/1/quic-v1"]);
    assert!(code == 1 && error.contains("names no peer"), "{error}");
    assert!(text(&folder.0, &["id", "own.key"]).contains(peer.unwrap()));
}

#[test]
fn two_nodes_are_dialled_pinged_and_measured() {
    let folder = Folder::new("net");
    let mut listener = Listener::start(&folder.0, &["--http", "127.0.0.1:0"]);
    let address = listener.wait_for("listening", "address");
    let http = listener.wait_for("http", "address");
    let dialled = json_of(&folder.0, &["dial", &address]);
    assert!(address.ends_with(dialled[0]["peer"].as_str().unwrap()));
    assert!(dialled[0]["profile"].as_str().unwrap().starts_with('v'));
    let pinged = json_of(&folder.0, &["ping", &address, "-c", "3", "-i", "10ms"]);
    assert_eq!(pinged.len(), 4, "three answers and a summary");
    assert_eq!((&pinged[3]["sent"], &pinged[3]["lost"]), (&3.into(), &0.into()));
    assert!(pinged[3]["median_ms"].as_f64().unwrap() > 0.0);
    let said = text(&folder.0, &["ping", &address, "-c", "1"]);
    assert!(said.contains("1 sent, 0 lost"), "{said}");
    let args = ["bench", &address, "--size", "1000", "--duration", "200ms", "--key", "own.key"];
    let measured = json_of(&folder.0, &args);
    assert!(measured[0]["messages"].as_u64().unwrap() > 0);
    let count = measured[0]["messages"].as_u64().unwrap();
    assert_eq!(measured[0]["bytes"].as_u64().unwrap(), count * 1000);
    // Of an identity that has measured before, only the new messages count.
    let again = json_of(&folder.0, &args);
    assert_eq!(again[0]["bytes"].as_u64().unwrap(), again[0]["messages"].as_u64().unwrap() * 1000);
    let table = text(&folder.0, &["top", &http, "--once"]);
    assert!(table.contains("PEER") && table.contains("peers in the book"), "{table}");
    for end in ["", "/", "/debug"] {
        let table = text(&folder.0, &["top", &format!("http://{http}{end}"), "--once"]);
        assert!(table.contains("PEER"), "{table}");
    }
    let debug = json_of(&folder.0, &["top", &http, "--once"]);
    assert!(address.ends_with(debug[0]["state"]["peer_id"].as_str().unwrap()));
    let checks =
        json_of(&folder.0, &["doctor", &address, "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]);
    assert!(checks.iter().all(|check| check["ok"] == true), "{checks:?}");
    assert!(checks.iter().any(|check| check["check"] == "peer"), "{checks:?}");
}

#[test]
fn what_fails_has_a_reason_a_hint_and_an_exit_code() {
    let folder = Folder::new("fail");
    let key = json_of(&folder.0, &["key", "own.key"]);
    let peer = key[0]["peer_id"].as_str().unwrap();
    let nobody = format!("/ip4/127.0.0.1/udp/9/quic-v1/p2p/{peer}");
    let (code, error) = failure(&folder.0, &["dial", &nobody, "--timeout", "300ms"]);
    assert_eq!(code, 1);
    assert!(error.contains("no session within 300ms") && error.contains("firewall"), "{error}");
    let (code, error) = failure(&folder.0, &["dial", "/ip4/127.0.0.1/udp/9/quic-v1"]);
    assert_eq!(code, 1);
    assert!(error.contains("hint: "), "{error}");
    let (code, _) = failure(&folder.0, &["dial"]);
    assert_eq!(code, 2);
    let output = run(&folder.0, &["dial", "/ip4/127.0.0.1/udp/9/quic-v1", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value["error"].as_str().unwrap().contains("invalid address"), "{value}");
    std::fs::write(folder.0.join("broken.key"), "no key").unwrap();
    let args = ["doctor", "--key", "broken.key", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let output = run(&folder.0, &args);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAIL identity"), "{text}");
    let (code, error) = failure(&folder.0, &["top", "127.0.0.1:1", "--once"]);
    assert_eq!(code, 1);
    assert!(error.contains("127.0.0.1:1") && error.contains("--http"), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let listen = ["listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--http", &taken];
    let (code, error) = failure(&folder.0, &listen);
    assert!(code == 1 && error.contains(&taken), "{error}");
    let wrong: [(&[&str], &str); 4] = [
        (&["dial", "nonsense"], "an address is such as /ip4/"),
        (&["ping", &nobody, "-i", "soon"], "a time is such as 250ms"),
        (&["book", "ban", "book.json", peer, "--for", "5"], "a time is such as 250ms"),
        (&["book", "unban", "book.json", "nonsense"], "a peer's id begins with 12D3KooW"),
    ];
    for (args, why) in wrong {
        let (code, error) = failure(&folder.0, args);
        assert!(code == 2 && error.contains(why), "{args:?}: {error}");
    }
    for (address, why) in [
        ("https://127.0.0.1:1", "https is not spoken"),
        ("127.0.0.1", "no port"),
        ("http://127.0.0.1:1/a?b", "a path"),
        ("http://:1", "no host"),
    ] {
        let (code, error) = failure(&folder.0, &["top", address, "--once"]);
        assert!(code == 2 && error.contains(why), "{address}: {error}");
    }
}

#[test]
fn a_book_is_shown_checked_repaired_and_changed() {
    let folder = Folder::new("book");
    let peer = json_of(&folder.0, &["key", "own.key"])[0]["peer_id"].as_str().unwrap().to_owned();
    json_of(&folder.0, &["book", "ban", "book.json", &peer, "--for", "1h"]);
    let shown = json_of(&folder.0, &["book", "show", "book.json"]);
    assert_eq!(shown[0]["peer"].as_str(), Some(&*peer));
    assert_eq!(shown[0]["banned"], true);
    let end = shown[0]["banned_until"].as_str().unwrap();
    let in_words = text(&folder.0, &["book", "show", "book.json"]);
    assert!(in_words.contains(&format!("BANNED until {end}")), "{in_words}");
    assert_eq!(json_of(&folder.0, &["book", "check", "book.json"])[0]["rejected"], 0);

    // An entry that cannot be read.
    let path = folder.0.join("book.json");
    let mut book: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    book["peers"]["somebody"] = serde_json::json!({ "multiaddrs": [] });
    let spoiled = serde_json::to_vec(&book).unwrap();
    std::fs::write(&path, &spoiled).unwrap();
    let (code, error) = failure(&folder.0, &["book", "check", "book.json"]);
    assert!(code == 1 && error.contains("repair"), "{error}");
    let repaired = json_of(&folder.0, &["book", "repair", "book.json"]);
    assert_eq!(repaired[0]["removed"], 1);
    assert_eq!(std::fs::read(folder.0.join("book.json.before-repair")).unwrap(), spoiled);
    assert_eq!(json_of(&folder.0, &["book", "check", "book.json"])[0]["peers"], 1);
    assert_eq!(json_of(&folder.0, &["book", "show", "book.json"])[0]["banned"], true);

    // A ban without an end.
    json_of(&folder.0, &["book", "ban", "book.json", &peer]);
    let shown = json_of(&folder.0, &["book", "show", "book.json"]);
    assert!(shown[0]["banned"] == true && shown[0]["banned_until"].is_null());
    assert!(text(&folder.0, &["book", "show", "book.json"]).contains("BANNED\n"));

    json_of(&folder.0, &["book", "unban", "book.json", &peer]);
    let (code, error) = failure(&folder.0, &["book", "unban", "book.json", &peer]);
    assert!(code == 1 && error.contains("is not banned"), "{error}");

    // What is no book is left alone.
    std::fs::write(folder.0.join("list.txt"), "milk").unwrap();
    let (code, _) = failure(&folder.0, &["book", "ban", "list.txt", &peer]);
    assert_eq!(code, 1);
    assert_eq!(std::fs::read(folder.0.join("list.txt")).unwrap(), b"milk");
    // A node that has the book open keeps others from changing it.
    let mut listener = Listener::start(&folder.0, &["--book", "book.json"]);
    listener.wait_for("listening", "address");
    let (code, error) = failure(&folder.0, &["book", "ban", "book.json", &peer]);
    assert!(code == 1 && error.contains("in use"), "{error}");
    assert!(run(&folder.0, &["book", "check", "book.json"]).status.success());
}

#[test]
fn the_simulator_and_the_shell_have_their_parts() {
    let folder = Folder::new("shell");
    let help = text(&folder.0, &["sim", "--help"]);
    assert!(help.contains("glueberry sim") || help.contains("replay"), "{help}");
    let hashes = run(&folder.0, &["sim", "run", "--seeds", "1", "--time", "1"]);
    assert!(hashes.status.success(), "{}", String::from_utf8_lossy(&hashes.stdout));
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&folder.0, &["completions", shell]);
        assert!(script.contains("doctor"), "{shell}");
    }
    let page = text(&folder.0, &["man"]);
    assert!(page.starts_with(".") && page.contains("glueberry"), "{page}");
    for name in ["key", "listen", "ping", "bench", "doctor", "top", "book"] {
        assert!(page.contains(name), "{name}");
    }
    assert!(text(&folder.0, &["--help"]).contains("Exit codes"));
}

/// Waits for a command that was started, and must end by itself.
fn ends(child: &mut Child) -> std::process::ExitStatus {
    for _ in 0..1000 {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    panic!("it has not ended within 10 s");
}

#[test]
fn what_prints_ends_when_its_reader_has_gone() {
    let folder = Folder::new("pipe");
    let mut listener = Listener::start(&folder.0, &["--http", "127.0.0.1:0"]);
    let address = listener.wait_for("listening", "address");
    let http = listener.wait_for("http", "address");
    let all: [&[&str]; 4] = [
        &["ping", &address, "-c", "1000000", "-i", "5ms"],
        &["top", &http, "-i", "5ms"],
        &["completions", "zsh"],
        &["man"],
    ];
    for args in all {
        let mut command = command(&folder.0, args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::with_capacity(16, child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        drop(lines);
        assert!(ends(&mut child).success(), "{args:?}");
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(errors, "", "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn signals_end_a_command_whatever_it_waits_for() {
    let folder = Folder::new("interrupt");
    let mut listener = Listener::start(&folder.0, &[]);
    let address = listener.wait_for("listening", "address");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let all: [&[&str]; 3] = [
        &["ping", &address, "-i", "1h"],
        &["bench", &address, "--duration", "1h"],
        &["top", &silent],
    ];
    for (args, signal) in all.into_iter().flat_map(|args| [(args, "-INT"), (args, "-TERM")]) {
        let mut command = command(&folder.0, args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        if args[0] == "ping" {
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            lines.next().unwrap().unwrap();
        } else {
            std::thread::sleep(Duration::from_secs(1));
        }
        send(signal, &child);
        // A signal without a handler leaves None.
        assert!(ends(&mut child).code().is_some(), "{args:?} {signal}");
    }
}

/// A container is stopped by SIGTERM, and what it has noted is not to be lost.
#[cfg(unix)]
#[test]
fn signals_end_a_listener_in_order() {
    let folder = Folder::new("terminate");
    for (signal, book) in [("-INT", "int.json"), ("-TERM", "term.json")] {
        let mut listener = Listener::start(&folder.0, &["--book", book]);
        let address = listener.wait_for("listening", "address");
        json_of(&folder.0, &["dial", &address]);
        send(signal, &listener.child);
        assert!(ends(&mut listener.child).success(), "{signal}");
    }
}

#[cfg(unix)]
fn send(signal: &str, to: &Child) {
    let arguments = [signal.to_owned(), to.id().to_string()];
    assert!(Command::new("kill").args(arguments).status().unwrap().success());
}

#[test]
fn a_size_that_no_message_has_is_refused() {
    let folder = Folder::new("size");
    let nobody = "/ip4/127.0.0.1/udp/9/quic-v1";
    for size in ["10485761", "18446744073709551615"] {
        let (code, error) = failure(&folder.0, &["bench", nobody, "--size", size]);
        assert!(code == 1 && error.contains("10485760"), "{error}");
    }
}

#[test]
fn a_book_has_no_hold_of_the_terminal_and_ends() {
    let folder = Folder::new("evil-book");
    let peer = json_of(&folder.0, &["key", "own.key"])[0]["peer_id"].as_str().unwrap().to_owned();
    let time = "2026-01-01T00:00:00Z";
    let evil = "\u{1b}[2J\u{9b}2J\u{202e}\nforged";
    let entry = json!({
        "peer_id": peer, "multiaddrs": [format!("/dns4/{evil}/udp/1/quic-v1")],
        "metadata": { evil: evil }, "created_at": time, "updated_at": time, "last_seen": time,
    });
    let mut book = json!({ "version": 1, "peers": { evil: {} } });
    book["peers"][&peer] = entry;
    std::fs::write(folder.0.join("book.json"), book.to_string()).unwrap();
    let shown = text(&folder.0, &["book", "show", "book.json"]);
    assert!(shown.contains("/dns4/") && shown.contains("cannot be read"), "{shown:?}");
    assert_eq!(shown.lines().count(), 4, "{shown:?}");
    assert!(shown.chars().all(|it| it == '\n' || !(it.is_control() || it == '\u{202e}')));
    if cfg!(unix) {
        let (code, error) = failure(&folder.0, &["book", "check", "/dev/zero"]);
        assert!(code == 1 && error.contains("no address book"), "{error}");
    }
}

/// A peer that asks for much and reads nothing.
async fn ask_and_read_nothing(address: &str) -> Node {
    let mut config = Config::default();
    (config.message_buffer, config.core.peer_memory) = (1, 1);
    let node = Node::builder(Keypair::generate_ed25519())
        .config(config)
        .streams([CONTROL])
        .handshake(Handshake::accept_all())
        .build()
        .await
        .unwrap();
    let peer = node.dial(address).await.unwrap();
    node.wait_established(peer).await.unwrap();
    // What comes back is more than the queue of the peer's answers holds.
    for id in 0..40_u64 {
        let head = [&[1][..], &id.to_be_bytes(), &[255; 4]].concat();
        let request = [head, vec![0; 1024 * 1024]].concat();
        node.send(peer, CONTROL, request).await.unwrap();
    }
    node
}

#[test]
fn a_peer_that_reads_no_answers_keeps_no_other_waiting() {
    let folder = Folder::new("greedy");
    let mut listener = Listener::start(&folder.0, &[]);
    let address = listener.wait_for("listening", "address");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let greedy = runtime.block_on(ask_and_read_nothing(&address));
    let sent = || greedy.messages_sent(greedy.connected()[0].peer);
    while sent() < 40 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = text(&folder.0, &["ping", &address, "-c", "2", "-i", "10ms"]);
    assert!(said.contains("2 sent, 0 lost"), "{said}");
    drop(greedy);
}

const CONTROL: &str = "glueberry-cli";

/// Answers one request over HTTP, and returns where.
fn answer_once(head: &'static str, body: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
        while !request.next().unwrap().unwrap().is_empty() {}
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    });
    address
}

#[test]
fn who_answers_as_a_node_has_no_hold_of_the_terminal() {
    let folder = Folder::new("terminal");
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}2J\u{202e}\nforged";
    let peer = json!({ "peer_id": evil, "state": evil, "is_outbound": true });
    let connected = json!({ "peer": evil, "profile": evil });
    let debug = json!({
        "state": {
            "peer_id": evil, "version": evil, "sessions": evil, "held_bytes": 2048,
            "address_book": { "total_peers": [evil] }, "peers": [peer],
        },
        "connected": [connected],
        "statistics": [{ "peer": evil, "messages_sent": 7 }],
    });
    let address = answer_once("HTTP/1.0 200 OK", debug.to_string());
    let shown = text(&folder.0, &["top", &address, "--once"]);
    let is_safe =
        |shown: &str| shown.chars().all(|it| it == '\n' || !(it.is_control() || it == '\u{202e}'));
    assert!(is_safe(&shown), "{shown:?}");
    assert_eq!(shown.lines().count(), 4, "{shown:?}");
    let line = shown.lines().last().unwrap();
    assert!(line.contains(" out ") && line.contains(" 7 "), "{line}");
    assert!(shown.contains("held: 2 KiB"), "{shown}");

    let address = answer_once("HTTP/1.0 500 \u{1b}[2J\u{202e}", String::new());
    let (_, errors) = failure(&folder.0, &["top", &address, "--once"]);
    assert!(errors.contains("500") && is_safe(&errors), "{errors:?}");
}
