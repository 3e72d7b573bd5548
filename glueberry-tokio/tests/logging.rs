//! What is logged is in the table of the documentation, at its level and with its fields; and what
//! is in the table is in the code.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::test_util::{LogCapture, MemoryNetwork, ScriptedPeer};
use glueberry_tokio::{Config, Node};

const TABLE: &str = include_str!("../LOGGING.md");

/// Level and fields by text.
fn table() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| ") && !line.contains("| text |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let fields = cells[3].split(", ").filter(|name| !name.is_empty()).map(str::to_owned);
        (cells[2].to_owned(), (cells[1].to_owned(), fields.collect()))
    })
    .collect()
}

#[tokio::test]
async fn what_is_logged_is_in_the_table() {
    let logs = LogCapture::start();
    let network = MemoryNetwork::new();
    let folder = std::env::temp_dir().join(format!("glueberry-logging-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("book.json"), "no json").unwrap();
    let node = Node::builder(Keypair::generate_ed25519())
        .config(Config::for_tests())
        .streams(["chat"])
        .address_book(folder.join("book.json"))
        .build_over(&network)
        .await
        .unwrap();
    let peer = ScriptedPeer::new(&network, ["chat"]).await.unwrap();
    peer.answer("chat", "secret question", "secret answer");
    node.add_peer(peer.id(), [peer.addr()]).await.unwrap();
    node.connect(peer.id()).await.unwrap();
    node.complete_handshake(peer.id(), peer.key(), &["chat"]).await.unwrap();
    let mut messages = node.messages().unwrap();
    node.send(peer.id(), "chat", "secret question").await.unwrap();
    assert_eq!(messages.recv().await.unwrap().data, "secret answer");
    network.cut(node.public_key(), peer.key());
    drop(node.connect(peer.id()).await);
    node.shutdown().await;
    std::fs::remove_dir_all(&folder).unwrap();

    let (table, mut seen) = (table(), BTreeSet::new());
    for event in logs.events() {
        let Some((level, fields)) = table.get(&event.message) else { panic!("{event:?}") };
        assert_eq!(*level, event.level.to_string(), "{event:?}");
        for field in event.fields.keys() {
            assert!(fields.contains(field), "{event:?}");
        }
        assert!(!format!("{event:?}").contains("secret"), "a payload is in {event:?}");
        let is_loud = ["INFO", "WARN"].contains(&level.as_str());
        let is_address = event.fields.values().any(|value| value.contains("/memory/"));
        assert!(!(is_loud && is_address), "an address is in {event:?}");
        seen.insert(event.message);
    }
    let expected = [
        "node started",
        "node stopping",
        "node stopped",
        "state changed",
        "connect",
        "handshake",
        "stream",
        "stream opened",
        "stream closed",
        "session closed",
        "message sent",
        "message received",
        "address book trouble",
    ];
    for text in expected {
        assert!(seen.contains(text), "`{text}` was not logged");
    }
}

/// Two nodes of one process are told apart, and what belongs to one connection is one trace.
#[tokio::test]
async fn everything_says_which_node_it_is_of_and_a_connection_is_one_trace() {
    let logs = LogCapture::start();
    let network = MemoryNetwork::new();
    let node = Node::builder(Keypair::generate_ed25519())
        .config(Config::for_tests())
        .streams(["chat"])
        .build_over(&network)
        .await
        .unwrap();
    let peer = ScriptedPeer::new(&network, ["chat"]).await.unwrap();
    peer.answer("chat", "question", "answer");
    node.add_peer(peer.id(), [peer.addr()]).await.unwrap();
    node.connect(peer.id()).await.unwrap();
    node.complete_handshake(peer.id(), peer.key(), &["chat"]).await.unwrap();
    let mut messages = node.messages().unwrap();
    node.send(peer.id(), "chat", "question").await.unwrap();
    messages.recv().await.unwrap();
    node.shutdown().await;
    let ids = [node.peer_id(), peer.id()].map(|id| id.to_string());
    let mut traces = BTreeMap::new();
    for event in logs.events() {
        // A span says it itself, and an event by the span that it is in.
        let within = event.within.last();
        let fields = if event.is_span { Some(&event.fields) } else { within.map(|it| &it.1) };
        let node = fields.and_then(|it| it.get("node")).unwrap_or_else(|| panic!("{event:?}"));
        assert!(ids.contains(node), "{event:?}");
        let parent = within.map(|it| &*it.0);
        match &*event.message {
            "connect" | "handshake" | "stream" | "state changed" => {
                assert_eq!(parent, Some("connection"), "{event:?}");
            }
            // Nothing is the caller's here, and a session is a trace of its own.
            "dial" | "connection" | "node" => assert_eq!(parent, None, "{event:?}"),
            _ => continue,
        }
        *traces.entry(event.message).or_insert(0) += 1;
    }
    // The peer did not dial. Its states are Connected, Established and Disconnected.
    let expected = [
        ("connect", 1),
        ("connection", 2),
        ("dial", 1),
        ("handshake", 2),
        ("node", 2),
        ("state changed", 7),
        ("stream", 2),
    ];
    assert_eq!(traces, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[test]
fn what_is_in_the_table_is_in_the_code_and_the_other_way_round() {
    let mut code = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let (table, mut logged) = (table(), BTreeSet::new());
    for level in ["trace", "debug", "info", "warn", "error"] {
        for call in [format!("{level}!("), format!("{level}_span!(")] {
            let starts = code.match_indices(&call);
            for (at, _) in starts.filter(|(at, _)| !code[..*at].ends_with(is_part_of_name)) {
                let call = arguments(&code[at + call.len()..]);
                let text = call.rsplit('"').nth(1).unwrap_or_else(|| panic!("{call} has no text"));
                let (expected, _) = table.get(text).unwrap_or_else(|| panic!("{call}"));
                assert_eq!(expected.to_lowercase(), level, "{call}");
                logged.insert(text.to_owned());
            }
        }
    }
    let listed: Vec<&String> = table.keys().collect();
    assert_eq!(logged.iter().collect::<Vec<_>>(), listed, "what is logged, and what is listed");
}

fn is_part_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Returns what stands before the bracket that closes a call.
fn arguments(code: &str) -> &str {
    let mut depth = 1;
    let end = code.find(|letter| {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    &code[..end.expect("a call is closed")]
}

fn read(folder: &Path, code: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
