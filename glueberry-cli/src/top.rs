//! A table of a node's peers.

use serde_json::Value;

use crate::cli::Top;
use crate::http;
use crate::output::{Failure, Output, print};

pub(crate) async fn run(top: Top, output: Output) -> Result<(), Failure> {
    let mut drawn = 0;
    loop {
        let debug: Value = serde_json::from_slice(&http::get(top.address, "/debug").await?)?;
        if output.is_json() {
            print(&debug.to_string());
        } else {
            let lines = table(&debug);
            let back = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
            drawn = lines.len();
            print(&format!("{back}{}", lines.join("\n")));
        }
        if top.once {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(top.interval) => {}
            result = tokio::signal::ctrl_c() => return Ok(result?),
        }
    }
}

fn table(debug: &Value) -> Vec<String> {
    let state = &debug["state"];
    let peers = state["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines = vec![
        format!("{}  protocol {}", text(&state["peer_id"]), text(&state["version"])),
        format!(
            "sessions: {}  peers in the book: {}  held: {} KiB",
            state["sessions"],
            state["address_book"]["total_peers"],
            state["held_bytes"].as_u64().unwrap_or_default() / 1024
        ),
        format!(
            "{:<53} {:<12} {:<4} {:>9} {:<6} {:>9} {:>9}",
            "PEER", "STATE", "WAY", "RTT", "WIRE", "SENT", "RECEIVED"
        ),
    ];
    lines.extend(peers.iter().map(|peer| line(debug, peer)));
    lines
}

fn line(debug: &Value, peer: &Value) -> String {
    let id = text(&peer["peer_id"]);
    let of_peer = |list: &Value| -> Value {
        let found = list.as_array().and_then(|all| all.iter().find(|it| text(&it["peer"]) == id));
        found.cloned().unwrap_or_default()
    };
    let (connected, statistics) = (of_peer(&debug["connected"]), of_peer(&debug["statistics"]));
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
    let count = |name: &str| statistics[name].as_u64().unwrap_or_default();
    format!(
        "{id:<53} {:<12} {way:<4} {round_trip:>9} {:<6} {:>9} {:>9}",
        text(&peer["state"]),
        text(&connected["profile"]),
        count("messages_sent"),
        count("messages_received"),
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
