//! Every public future, dropped at each point at which it can wait.
//!
//! A future is polled 0, 1, 2… times, whenever it is woken, and dropped; until one is ready by then.
//! After each the node must be of use: what a dropped call has done is done whole or not at all, and the
//! next call of its kind works.

mod book;
mod commands;
mod messages;
mod requests;

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How often a future is polled before it is dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polls(usize);

impl Polls {
    /// Polls a future so often, and drops it. Returns its output if it was ready by then.
    ///
    /// One that is not woken for a while waits for something that does not happen, and counts as polled.
    pub(crate) async fn of<F: Future>(self, future: F) -> Option<F::Output> {
        let (woken, mut future) = (Arc::new(Woken(Notify::new())), pin!(future));
        let waker = woken.clone().into();
        for left in (0..self.0).rev() {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
            if left > 0 {
                timeout(UNWOKEN, woken.0.notified()).await.ok();
            }
        }
        None
    }
}

struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Plays with futures that are dropped after 0, 1, 2… polls, until one was ready.
pub(crate) async fn each(what: &str, mut play: impl AsyncFnMut(Polls) -> bool) {
    for polls in 0..MOST {
        if play(Polls(polls)).await {
            return;
        }
    }
    panic!("{what} was not ready after {MOST} polls");
}

/// Every public function that is async, and every Stream and Sink, by the file that has it: those that
/// these tests drop, and those that they leave out, with the reason.
const DROPPED: [(&str, &[&str]); 12] = [
    ("builder.rs", &["build", "build_over"]),
    ("events.rs", &["impl Stream for Events", "recv"]),
    ("handler.rs", &["run_handler"]),
    ("inbox.rs", &["impl Stream for Messages", "recv", "recv_many"]),
    (
        "node.rs",
        &[
            "autoconnect",
            "cancel_reconnection",
            "complete_handshake",
            "connect",
            "disconnect",
            "finalize_handshake",
            "prepare_streams",
            "protect",
            "set_reconnect_policy",
            "shutdown",
        ],
    ),
    (
        "node/book.rs",
        &[
            "add_new_peer",
            "add_peer",
            "add_peer_with_metadata",
            "blacklist_peer",
            "clear_profile_pin",
            "flush_address_book",
            "is_blacklisted",
            "peer",
            "peers",
            "reload_address_book",
            "remove_peer",
            "unblacklist_peer",
            "update_metadata",
        ],
    ),
    ("node/dial.rs", &["dial", "greet", "wait_established"]),
    ("node/messages.rs", &["send", "send_many"]),
    ("node/observe.rs", &["debug_state", "health"]),
    ("request/client.rs", &["request"]),
    (
        "request/server.rs",
        &["cancelled", "fail", "impl Stream for IncomingRequests", "recv", "respond"],
    ),
    (
        "stream.rs",
        &[
            "impl Sink<Bytes> for StreamHandle",
            "impl Stream for StreamHandle",
            "recv",
            "recv_many",
            "send",
            "send_many",
        ],
    ),
];

/// Tools of tests, which are behind a feature that these are not built with.
const LEFT_OUT: &str = "test_util/";

/// A new one belongs into the table above, and into a test.
#[test]
fn no_public_future_is_left_out() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    visit(&source, &mut |path, text| {
        let file = path.strip_prefix(&source).unwrap().to_str().unwrap().replace('\\', "/");
        if !file.starts_with(LEFT_OUT) {
            let names = text.lines().filter_map(future_of);
            found.extend(names.map(|name| (file.clone(), name)));
        }
    });
    let listed = DROPPED.iter().flat_map(|(file, names)| {
        names.iter().map(|name| ((*file).to_owned(), (*name).to_owned()))
    });
    assert_eq!(found, listed.collect());
}

fn future_of(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(rest) = line.strip_prefix("pub async fn ") {
        return Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
    }
    let is_public = line.starts_with("impl Stream for ") || line.starts_with("impl Sink<");
    is_public.then(|| line.trim_end_matches(" {").to_owned())
}

fn visit(folder: &Path, seen: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, seen);
        } else if path.extension().is_some_and(|it| it == "rs") {
            seen(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

/// More than any of the futures needs.
const MOST: usize = 64;
/// Longer than anything takes that happens.
const UNWOKEN: Duration = Duration::from_millis(100);
