//! Runs the programs as a person does: processes, their output, and Ctrl-C.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

mod opentelemetry;
mod running;

use std::time::Duration;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Handshake, Node, RequestLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::running::{Folder, LONG, PROGRAMS, Running, output, unread};

#[tokio::test]
async fn each_explains_itself() {
    let folder = Folder::new("help");
    for (name, _) in PROGRAMS {
        let (is_good, text) = output(name, &folder.0, &["--help"]).await;
        assert!(is_good && text.contains("Usage"), "{name}: {text}");
    }
}

/// As with `| head -1`, but sooner.
#[tokio::test]
async fn each_ends_quietly_once_nobody_reads_what_it_says() {
    let folder = Folder::new("unread");
    for (name, _) in PROGRAMS {
        let said = unread(name, &folder.0).await;
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_sender_that_does_not_wait_ends_no_receiver() {
    let folder = Folder::new("impatient");
    std::fs::write(folder.0.join("data"), vec![7; 10_000]).unwrap();
    let mut receiver = Running::start("file", &folder.0, &["receive", "--into", "got"]);
    let address = receiver.wait_for("--to ").await;
    let builder = Node::builder(Keypair::generate_ed25519()).streams(["file"]);
    let node = builder.handshake(Handshake::accept_all()).build().await.unwrap();
    let (requester, _) = node.requests("file", RequestLimits::default()).unwrap();
    let peer = node.dial(address.as_str()).await.unwrap();
    node.wait_established(peer).await.unwrap();
    let sha256 = "0".repeat(64);
    let (part, parts) = (vec![7; 8 * 1024 * 1024], 4);
    let offer = serde_json::json!({ "name": "a", "size": parts * part.len(), "sha256": sha256 });
    let first = format!("{}\0", serde_json::json!({ "offer": offer }));
    requester.request(peer, first, LONG).await.unwrap();
    for number in 0..parts {
        let chunk = serde_json::json!({ "sha256": sha256, "offset": number * part.len() });
        let head = format!("{}\0", serde_json::json!({ "chunk": chunk })).into_bytes();
        requester.request(peer, [&head[..], &part].concat(), LONG).await.unwrap();
    }
    // To look at all of it takes longer than this sender waits.
    let last = format!("{}\0", serde_json::json!({ "done": offer }));
    drop(requester.request(peer, last, Duration::from_millis(5)).await);
    let send = ["--identity", "other.key", "send", "data", "--to", &address];
    let (is_good, text) = output("file", &folder.0, &send).await;
    assert!(is_good, "{text}");
    assert!(receiver.signal("-INT").await);
}

#[tokio::test]
async fn a_file_arrives_whole_and_what_was_broken_off_goes_on() {
    let folder = Folder::new("file");
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    std::fs::write(folder.0.join("data.bin"), &content).unwrap();
    let receive = ["receive", "--into", "got", "--identity", "receiver.key"];
    let mut receiver = Running::start("file", &folder.0, &receive);
    let to = receiver.wait_for("--to ").await;
    let send = ["send", "data.bin", "--to", &to];
    let (is_good, text) = output("file", &folder.0, &send).await;
    assert!(is_good && text.contains("the peer has data.bin, 3000000 bytes, checked"), "{text}");
    assert!(std::fs::read(folder.0.join("got/data.bin")).unwrap() == content);
    let missing = ["send", "missing.bin", "--to", &to];
    let (is_good, text) = output("file", &folder.0, &missing).await;
    assert!(!is_good && text.contains("missing.bin: "), "{text}");
    // The name is taken: nothing is overwritten. A part of it is there already.
    let hash = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&content));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = folder.0.join(format!("got/.{hash}.part"));
    std::fs::write(&part, &content[..1_000_000]).unwrap();
    let (is_good, text) = output("file", &folder.0, &send).await;
    assert!(is_good && text.contains("has 1000000 of 3000000 bytes already"), "{text}");
    assert!(std::fs::read(folder.0.join("got/1-data.bin")).unwrap() == content);
    // A part that is not the beginning of this file is found out.
    std::fs::write(&part, vec![0; 1000]).unwrap();
    let (is_good, text) = output("file", &folder.0, &send).await;
    assert!(!is_good && text.contains("send it again"), "{text}");
    assert_eq!(std::fs::read_dir(folder.0.join("got")).unwrap().count(), 2);
    assert!(receiver.signal("-INT").await);
}

#[cfg(unix)]
#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    let folder = Folder::new("traversal");
    let mut receiver = Running::start("file", &folder.0, &["receive", "--into", "got"]);
    let to = receiver.wait_for("--to ").await;
    let builder = Node::builder(Keypair::generate_ed25519()).streams(["file"]);
    let node = builder.handshake(Handshake::accept_all()).build().await.unwrap();
    let (requester, _) = node.requests("file", RequestLimits::default()).unwrap();
    let peer = node.dial(to.as_str()).await.unwrap();
    timeout(LONG, node.wait_established(peer)).await.unwrap().unwrap();
    for name in ["../evil", "/etc/evil", "a/b", "..", ".", ".hidden", "", "a\\b", "c:evil"] {
        let offer = serde_json::json!({ "name": name, "size": 1, "sha256": "0".repeat(64) });
        let header = serde_json::json!({ "offer": offer });
        let request = format!("{header}\0");
        let error = requester.request(peer, request, LONG).await.unwrap_err();
        assert!(error.to_string().contains("is no name of a file"), "{name}: {error}");
    }
    let chunk = serde_json::json!({ "chunk": { "sha256": "../../evil", "offset": 0 } });
    let error = requester.request(peer, format!("{chunk}\0x"), LONG).await.unwrap_err();
    assert!(error.to_string().contains("no SHA-256"), "{error}");
    assert_eq!(std::fs::read_dir(folder.0.join("got")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_mesh_of_three_finds_itself_by_one_address() {
    let folder = Folder::new("cluster");
    let start = |identity: &'static str, join: Option<String>| {
        let mut args = vec!["--until", "2", "--identity", identity];
        args.extend(join.as_deref());
        Running::start("cluster", &folder.0, &args)
    };
    let mut first = start("a.key", None);
    let address = first.wait_for("to join: ").await;
    let mut second = start("b.key", Some(address.clone()));
    let mut third = start("c.key", Some(address));
    for node in [&mut first, &mut second, &mut third] {
        node.wait_for("2 peers are there").await;
        assert!(node.ends_well().await);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_application_in_a_container_is_observed_and_stops_gracefully() {
    let folder = Folder::new("integration");
    let args = ["--data", "data", "--http", "127.0.0.1:0"];
    let mut first = Running::start("integration", &folder.0, &args);
    let http = first.wait_for("http://").await;
    let address = first.wait_for("reach this node at ").await;
    assert!(get(&http, "/debug").await.contains("200 OK"));
    let args = ["--data", "other", "--http", "0.0.0.0:0", "--peer", &address];
    let mut second = Running::start("integration", &folder.0, &args);
    let public = second.wait_for("http://0.0.0.0:").await;
    let public = format!("127.0.0.1:{public}");
    second.wait_for("reach this node at ").await;
    assert!(get(&public, "/ready").await.contains("200 OK"));
    assert!(get(&public, "/debug").await.contains("404"));
    let established = "glueberry_handshake_results_total{result=\"success\"} 1";
    let is_established = async {
        while !get(&http, "/metrics").await.contains(established) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, is_established).await.unwrap();
    assert!(get(&http, "/health").await.contains("200 OK"));
    assert!(second.signal("-TERM").await);
    assert!(first.signal("-INT").await);
    let book = std::fs::read_to_string(folder.0.join("other/book.json")).unwrap();
    let peer = address.rsplit('/').next().unwrap();
    assert!(book.contains(peer), "{book}");
}

/// Ctrl-C, and what stops a container.
#[cfg(unix)]
#[tokio::test]
async fn what_serves_ends_in_order_on_both_signals() {
    let folder = Folder::new("signals");
    let all: [(&str, &[&str], &str); 4] = [
        ("cluster", &["--identity", "a.key"], "to join: "),
        ("file", &["receive", "--into", "got"], "--to "),
        ("integration", &["--data", "data", "--http", "127.0.0.1:0"], "reach this node at "),
        ("on_smol", &["echo"], "to ping: "),
    ];
    for ((name, args, ready), signal) in
        all.into_iter().flat_map(|it| [(it, "-INT"), (it, "-TERM")])
    {
        let mut running = Running::start(name, &folder.0, args);
        running.wait_for(ready).await;
        assert!(running.signal(signal).await, "{name} {signal}");
    }
}

async fn get(host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn requests_in_json_are_answered() {
    let folder = Folder::new("rpc");
    let (is_good, text) = output("rpc", &folder.0, &[]).await;
    assert!(is_good && text.contains("2 + 3 = 5"), "{text}");
    assert!(text.contains("division by zero"), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_node_on_smol_answers_until_it_is_interrupted() {
    let folder = Folder::new("smol");
    let mut echo = Running::start("on_smol", &folder.0, &["echo"]);
    let address = echo.wait_for("to ping: ").await;
    let ping = ["ping", &address, "--count", "3", "--identity", "ping.key"];
    let (is_good, text) = output("on_smol", &folder.0, &ping).await;
    assert!(is_good && text.contains("ping 3: "), "{text}");
    assert!(echo.signal("-INT").await);
}

#[tokio::test]
async fn a_port_for_http_that_is_taken_is_named() {
    let folder = Folder::new("taken");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = taken.local_addr().unwrap().to_string();
    let (is_good, text) = output("integration", &folder.0, &["--http", &http]).await;
    assert!(!is_good && text.contains(&format!("HTTP at {http}: ")), "{text}");
}

#[tokio::test]
async fn an_address_that_names_no_peer_cannot_be_joined() {
    let folder = Folder::new("join");
    let (is_good, text) = output("cluster", &folder.0, &["/ip4/127.0.0.1/udp/9/quic-v1"]).await;
    assert!(!is_good && text.contains("does not end with /p2p/"), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_collector_that_is_not_there_is_told() {
    let folder = Folder::new("no-collector");
    let nowhere = ["--collector", "http://127.0.0.1:9/v1/traces"];
    let mut serve = Running::start("traces", &folder.0, &[&["serve"], &nowhere[..]].concat());
    let address = serve.wait_for("to ask: ").await;
    let ask = [&["ask", &address, "--identity", "ask.key"], &nowhere[..]].concat();
    let (is_good, text) = output("traces", &folder.0, &ask).await;
    assert!(text.contains("answer: "), "{text}");
    assert!(!is_good && text.contains("spans were not sent"), "{text}");
}

#[tokio::test]
async fn a_configuration_comes_from_a_file_and_a_bad_value_is_named() {
    let folder = Folder::new("from-env");
    std::fs::write(folder.0.join("good.toml"), "keep_alive = \"2s\"\nstream_window = \"1MiB\"")
        .unwrap();
    std::fs::write(folder.0.join("bad.toml"), "keep_alive = \"soon\"").unwrap();
    let (is_good, text) = output("from_env", &folder.0, &["good.toml"]).await;
    assert!(is_good && text.contains("PEERS"), "{text}");
    let (is_good, text) = output("from_env", &folder.0, &["bad.toml"]).await;
    assert!(!is_good && text.contains("keep_alive"), "{text}");
}
