//! The form for one thread: one rule, and few ways to break it.

use std::time::Duration;

use glueberry_proto::endpoint::{Output, Write};
use glueberry_proto::{ConnectionLost, DialError, Event, SendError, mux};

use self::net::{A, B, Net, key, name};
use super::Row;

#[path = "../endpoint/net.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest")]
mod net;

fn net() -> Net {
    Net::established(&mux::Config::default())
}

fn unreachable() -> Net {
    let mut net = Net::new(&mux::Config::default());
    net.is_unreachable = true;
    net.connect();
    net
}

fn oldest(net: &Net) -> String {
    net.ends[A].owed().first().map_or_else(|| "nothing".into(), ToString::to_string)
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        misuse: "outputs of an endpoint are not taken until the timeout comes",
        happens: "what they ask for is not done",
        told: "2 outputs were not taken since 0.000000s",
        run: || oldest(&unreachable()),
    },
    Row {
        misuse: "an endpoint's dial is not answered",
        happens: "it fails after `dial_timeout`",
        told: "a dial was not answered on connection-0 since 0.000000s",
        run: || {
            let mut net = unreachable();
            net.take(A);
            oldest(&net)
        },
    },
    Row {
        misuse: "bytes are not reported as written",
        happens: "nothing more is written on that connection",
        told: "bytes were not reported as written on connection-0",
        run: || {
            let mut net = net();
            net.stuck = Some(A);
            net.send(A, "chat", b"text");
            net.take(A);
            let owed = oldest(&net);
            let (_, rest) = owed.split_once(' ').unwrap();
            rest.split(" since").next().unwrap().into()
        },
    },
    Row {
        misuse: "the first bytes are written and not reported as written",
        happens: "the session ends, and says whose fault it may be",
        told: "bytes were not reported as written on connection-0",
        run: || {
            let mut net = Net::new(&mux::Config::default());
            net.stuck = Some(A);
            net.connect();
            net.run();
            for _ in 0..100 {
                net.advance(Duration::from_secs(5));
                if let [closed, ..] = &net.ended(A)[..] {
                    let Some(owed) = &closed.owed else { return closed.to_string() };
                    let owed = owed.to_string();
                    let (_, rest) = owed.split_once(' ').unwrap();
                    return rest.split(" since").next().unwrap().into();
                }
            }
            "nothing".into()
        },
    },
    Row {
        misuse: "no bytes that arrive are handed in",
        happens: "the session ends as if the peer were silent",
        told: "the handshake substream was lost",
        run: || {
            let mut net = unreachable();
            let id = net.dial();
            let a = &mut net.ends[A];
            a.handle_connected(net.now, id, key(B));
            // What is written is reported in the next turn, as by a loop that waits for its sockets.
            let mut is_written = true;
            loop {
                match a.poll_output(net.now) {
                    Output::Transport(_) => is_written = false,
                    Output::Event { event: Event::Closed(closed), .. } => {
                        return closed.to_string();
                    }
                    Output::Timeout(_) if !is_written => {
                        is_written = true;
                        a.handle_written(net.now, id);
                    }
                    Output::Timeout(at) => net.now = at.unwrap(),
                    _ => {}
                }
            }
        },
    },
    Row {
        misuse: "bytes are reported as written that were not asked for",
        happens: "nothing",
        told: "nothing",
        run: || {
            let mut net = net();
            let connection = net.pipes[0].ids[A].unwrap();
            net.ends[A].handle_written(net.now, connection);
            oldest(&net).replace("1 outputs were not taken since 0.000000s", "nothing")
        },
    },
    Row {
        misuse: "the end of a pipe is not reported",
        happens: "the mux finds it out: `mux::Config::ping_after`, then `ping_timeout`",
        told: "connection lost: timed out",
        run: || {
            let mut net = net();
            net.pipes[0].closed[B] = true;
            for _ in 0..2 {
                net.take(A);
                net.now = net.now + Duration::from_secs(15);
            }
            net.take(A);
            net.ended(A)[0].reason.to_string()
        },
    },
    Row {
        misuse: "inputs about connections that are closed",
        happens: "nothing",
        told: "session is not established",
        run: || {
            let mut net = unreachable();
            let id = net.dial();
            net.ends[A].handle_dial_failed(net.now, id, DialError::TimedOut);
            net.ends[A].handle_bytes(net.now, id, b"bytes");
            net.ends[A].handle_lost(net.now, id, ConnectionLost::Reset);
            let sent = net.ends[A].send(net.now, key(B), &name("chat"), "text".into());
            assert_eq!(sent, Err(SendError::NotEstablished));
            sent.unwrap_err().to_string()
        },
    },
    Row {
        misuse: "a connection is made after its dial was given up",
        happens: "it is to be closed",
        told: "Close",
        run: || {
            let mut net = unreachable();
            let id = net.dial();
            net.advance(Duration::from_secs(31));
            net.ends[A].handle_connected(net.now, id, key(B));
            match net.ends[A].poll_output(net.now) {
                Output::Close { .. } => "Close".into(),
                other => format!("{other:?}"),
            }
        },
    },
    Row {
        misuse: "bytes are handed in twice",
        happens: "the mux ends the connection, or the record does not open",
        told: "the peer is blamed: the pipe promised order, and nothing can tell them apart",
        run: || {
            let mut net = net();
            net.send(A, "chat", b"text");
            loop {
                match net.ends[A].poll_output(net.now) {
                    Output::Transport(Write { bytes, .. }) => {
                        let id = net.pipes[0].ids[B].unwrap();
                        net.ends[B].handle_bytes(net.now, id, &bytes);
                        net.ends[B].handle_bytes(net.now, id, &bytes);
                        break;
                    }
                    Output::Timeout(_) => panic!("nothing is written"),
                    _ => {}
                }
            }
            net.take(B);
            let is_noticed = |output: &Output<_>| {
                matches!(output, Output::Event { event: Event::Closed(_), .. })
                    || matches!(output, Output::Event { event: Event::RecordRejected { .. }, .. })
            };
            assert!(net.log[B].iter().any(is_noticed), "{:?}", net.log[B]);
            "the peer is blamed: the pipe promised order, and nothing can tell them apart".into()
        },
    },
];
