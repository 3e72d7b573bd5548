//! The example `relay`, as a person uses it: its output, and signals.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Handshake, Node};

use crate::support::{STREAM, run_test};

/// A process that is killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().unwrap();
    }
}

/// Builds the example, beside the test: `cargo test` builds it only if no test is chosen by name.
fn program() -> PathBuf {
    // target/PROFILE/deps/swarm-HASH
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "-p", "glueberry-libp2p", "--example", "relay"]);
    // With other features than this test, all of it would be built once more.
    for (feature, is_on) in [("kad", cfg!(feature = "kad")), ("mdns", cfg!(feature = "mdns"))] {
        if is_on {
            cargo.args(["--features", feature]);
        }
    }
    cargo.arg("--target-dir").arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    folder.join("examples/relay")
}

#[test]
fn the_example_is_a_relay_until_it_is_interrupted() {
    let folder = std::env::temp_dir().join(format!("glueberry-relay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let help = Command::new(program()).arg("--help").output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("Usage"));
    let anywhere = ["--listen", "/ip4/0.0.0.0/tcp/0"];
    let refused = Command::new(program()).args(anywhere).current_dir(&folder).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--external"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = format!("/ip4/127.0.0.1/tcp/{}", free.port());
    let mut command = Command::new(program());
    command.args(["--listen", &listen]).current_dir(&folder).stdout(Stdio::piped());
    let mut relay = Running(command.spawn().unwrap());
    let mut lines = BufReader::new(relay.0.stdout.take().unwrap()).lines();
    let circuit = lines.next().unwrap().unwrap().strip_prefix("listen on: ").unwrap().to_owned();
    run_test(async move {
        let node = |listen: &str| {
            let mut over = Libp2p::default();
            (over.upnp, over.dns, over.hole_punching) = (false, false, false);
            let builder = Node::builder(Keypair::generate_ed25519()).streams([STREAM]);
            let builder = builder.listen(listen.parse().unwrap());
            builder.handshake(Handshake::accept_all()).build_over(over)
        };
        let hidden = node(&circuit).await.unwrap();
        let other = node("/ip4/127.0.0.1/tcp/0").await.unwrap();
        let address = format!("{circuit}/p2p/{}", hidden.peer_id());
        other.dial(address.as_str()).await.unwrap();
        other.wait_established(hidden.peer_id()).await.unwrap();
    });
    end(&mut relay, "-INT");
    // As a container is stopped.
    let mut command = Command::new(program());
    command.args(["--listen", &listen]).current_dir(&folder).stdout(Stdio::piped());
    let mut relay = Running(command.spawn().unwrap());
    let mut lines = BufReader::new(relay.0.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    end(&mut relay, "-TERM");
    std::fs::remove_dir_all(&folder).unwrap();
}

fn end(running: &mut Running, signal: &str) {
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    assert!(running.0.wait().unwrap().success(), "{signal}");
}
