//! A table of a node's peers.

use std::collections::BTreeMap;

use glueberry_tokio::proto::printable;
use serde_json::Value;

use crate::cli::Top;
use crate::http;
use crate::interrupt::Interrupt;
use crate::output::{Failure, Output, print};

pub(crate) async fn run(
    top: Top,
    interrupt: &mut Interrupt,
    output: Output,
) -> Result<(), Failure> {
    let mut drawn = 0;
    loop {
        let answer = tokio::select! {
            answer = http::get(&top.address, "/debug") => answer?,
            () = interrupt.came() => return Ok(()),
        };
        let debug: Value = serde_json::from_slice(&answer)?;
        if output.is_json() {
            print(&debug.to_string());
        } else {
            let lines = table(&debug);
            let back = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
            drawn = lines.len();
            print(&format!("{back}{}", lines.join("\n")));
        }
        if top.once || !output.is_read() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(top.interval) => {}
            () = interrupt.came() => return Ok(()),
        }
    }
}

/// Returns the lines of the table. They hold text that the other end chose: none of it may reach the
/// terminal unescaped.
fn table(debug: &Value) -> Vec<String> {
    let state = &debug["state"];
    let peers = state["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let connected = by_peer(&debug["connected"]);
    let statistics = by_peer(&debug["statistics"]);
    let mut lines = vec![
        format!("{}  protocol {}", text(&state["peer_id"]), text(&state["version"])),
        format!(
            "sessions: {}  peers in the book: {}  held: {} KiB",
            count(&state["sessions"]),
            count(&state["address_book"]["total_peers"]),
            count(&state["held_bytes"]) / 1024
        ),
        format!(
            "{:<53} {:<12} {:<4} {:>9} {:<6} {:>9} {:>9}",
            "PEER", "STATE", "WAY", "RTT", "WIRE", "SENT", "RECEIVED"
        ),
    ];
    lines.extend(peers.iter().map(|peer| {
        let id = peer["peer_id"].as_str().unwrap_or_default();
        let (connected, statistics) = (connected.get(id), statistics.get(id));
        line(peer, connected.unwrap_or(&&Value::Null), statistics.unwrap_or(&&Value::Null))
    }));
    lines
}

/// Returns the entries of a list by their peers: a node may have many.
fn by_peer(list: &Value) -> BTreeMap<&str, &Value> {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|entry| Some((entry["peer"].as_str()?, entry))).collect()
}

fn line(peer: &Value, connected: &Value, statistics: &Value) -> String {
    let way = match peer["is_outbound"].as_bool() {
        Some(true) => "out",
        Some(false) => "in",
        None => "",
    };
    let round_trip = &connected["round_trip"];
    let round_trip = match (round_trip["secs"].as_f64(), round_trip["nanos"].as_f64()) {
        (Some(secs), Some(nanos)) => format!("{:.2} ms", secs * 1e3 + nanos / 1e6),
        _ => String::new(),
    };
    format!(
        "{:<53} {:<12} {way:<4} {round_trip:>9} {:<6} {:>9} {:>9}",
        text(&peer["peer_id"]),
        text(&peer["state"]),
        text(&connected["profile"]),
        count(&statistics["messages_sent"]),
        count(&statistics["messages_received"]),
    )
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
