//! What a node needs, checked.

use std::path::Path;
use std::time::Duration;

use glueberry_tokio::identity;
use serde_json::json;

use crate::book;
use crate::cli::{Doctor, Own, Target};
use crate::interrupt::Interrupt;
use crate::network::{Session, builder};
use crate::output::{Failure, Output};

pub(crate) async fn run(
    doctor: Doctor,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<(), Failure> {
    let mut report = Report { output, failed: 0 };
    report.add("version", Ok(format!("protocol {}", glueberry_tokio::ProtocolVersion::CURRENT)));
    report.add("cipher", Ok(cipher().to_owned()));
    if let Some(path) = &doctor.key {
        report.add("identity", identity(path));
    }
    if let Some(path) = &doctor.book {
        report.add("address book", book::summary(path));
    }
    let node = builder(None)?.listen(doctor.listen).build().await;
    match &node {
        Ok(node) => {
            let addrs: Vec<String> = node.addrs().iter().map(ToString::to_string).collect();
            report.add("listening", Ok(addrs.join(", ")));
            let health = node.health().await;
            let failed = health.checks.iter().find(|check| !check.is_healthy);
            let outcome = failed.map_or_else(
                || Ok("all checks pass".to_owned()),
                |check| Err(format!("{}: {}", check.name, check.message)),
            );
            report.add("health", outcome);
            node.shutdown().await;
        }
        Err(error) => report.add("listening", Err(format!("{error:#}; {}", error.hint()))),
    }
    if let Some(address) = doctor.peer {
        let own = Own { key: doctor.key };
        let target = Target { address, own, timeout: Duration::from_secs(30) };
        match Session::open(&target, interrupt).await {
            Ok(session) => {
                report.add("peer", Ok(session.describe().0.replace('\n', " ")));
                session.node.shutdown().await;
            }
            Err(failure) => report.add("peer", Err(failure.text())),
        }
    }
    match report.failed {
        0 => Ok(()),
        failed => Err(Failure::new(format!("checks that failed: {failed}"))),
    }
}

struct Report {
    output: Output,
    failed: u32,
}

impl Report {
    fn add(&mut self, name: &str, outcome: Result<String, String>) {
        let is_good = outcome.is_ok();
        self.failed += u32::from(!is_good);
        let (mark, text) = match &outcome {
            Ok(text) => ("ok  ", text),
            Err(text) => ("FAIL", text),
        };
        let value = json!({ "check": name, "ok": is_good, "text": text });
        self.output.say(format!("{mark} {name:<13} {text}"), &value);
    }
}

fn identity(path: &Path) -> Result<String, String> {
    let identity = identity::load(path).map_err(|error| error.to_string())?;
    Ok(identity.public().to_peer_id().to_string())
}

/// Returns what the session's cipher would be with a peer that has the same.
fn cipher() -> &'static str {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    let has_aes = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    let has_aes = false;
    match has_aes {
        true => "this machine has instructions for AES: profile v2 can use AES-256-GCM",
        false => "this machine has no instructions for AES: ChaCha20-Poly1305 is used",
    }
}
