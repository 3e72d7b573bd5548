//! What peers send before they are known: over the committed seeds and over random inputs.

use std::future::poll_fn;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::join;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::hostile_certificates::fuzz_certificate;
use super::{Pair, Runtime, on_every_runtime};
use crate::negotiations::Negotiation;
use crate::quic::{NegotiateError, Negotiated, propose, respond};

#[test]
fn seeds_of_certificates() {
    let seeds = include_str!("../../../tests/fuzz/seeds/certificate.hex");
    for line in seeds.lines().filter(|line| !line.starts_with('#')) {
        println!("{line}");
        fuzz_certificate(&hex::decode(line).unwrap());
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn certificates(data in prop::collection::vec(any::<u8>(), 0..60)) {
        fuzz_certificate(&data);
    }
}

on_every_runtime!(negotiations_of_any_bytes_in_any_pieces);

/// A peer's half of a negotiation: messages right, wrong and made up, and data behind them; then
/// where it is cut.
fn said() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let message = prop_oneof![
        4 => Just(framed(b"/multistream/1.0.0\n")),
        4 => Just(framed(b"/a/1\n")),
        2 => Just(framed(b"/x\n")),
        2 => Just(framed(b"na\n")),
        1 => Just(framed(b"ls\n")),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| framed(&bytes)),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let said = prop::collection::vec(message, 0..8).prop_map(|all| all.concat());
    (said, prop::collection::vec(1_usize..30, 1..6))
}

/// Each of our sides, against such a peer, ends: with an agreement, after which exactly what followed
/// it is read, or with an error that says whose fault it is.
async fn negotiations_of_any_bytes_in_any_pieces(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let mut runner = TestRunner::new(cases(200));
    for _ in 0..runner.config().cases {
        let tree = said().new_tree(&mut runner).unwrap();
        let (said, cuts) = tree.current();
        println!("{said:02x?} in pieces of {cuts:?}");
        for is_dialler in [false, true] {
            let whole = outcome(&pair, is_dialler, &said, &[usize::MAX]).await;
            let cut = outcome(&pair, is_dialler, &said, &cuts).await;
            assert_eq!(cut, whole, "cut in another way");
        }
    }
}

/// Returns what came of it: the protocol and what was read behind it, or which error.
async fn outcome(
    pair: &Pair,
    is_dialler: bool,
    said: &[u8],
    cuts: &[usize],
) -> Result<(String, Vec<u8>), Discriminant<NegotiateError>> {
    let names = ["/b", "/a/1"].map(ToOwned::to_owned);
    let ours = async {
        let agreed = match is_dialler {
            true => {
                let (send, recv) = pair.open().await;
                propose(send, recv, &names).await
            }
            false => {
                let (send, recv) = pair.opened().await;
                respond(send, recv, names.to_vec(), Negotiation::alone()).await
            }
        };
        let Negotiated { protocol, mut recv, .. } = agreed.map_err(|error| discriminant(&error))?;
        Ok((protocol, recv.read_to_end(said.len()).await.unwrap()))
    };
    let theirs = async {
        let (mut send, recv) = if is_dialler { pair.opened().await } else { pair.open().await };
        let (mut rest, mut cuts) = (said, cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            // We may have hung up before the end.
            let _ = send.write_all(piece).await;
            rest = behind;
            others_go_on().await;
        }
        let _ = send.finish();
        (send, recv)
    };
    join(ours, theirs).await.0
}

/// Lets every other task go on, so that what is written is sent by itself.
async fn others_go_on() {
    let mut is_done = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_done, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[u8::try_from(message.len()).unwrap()], message].concat()
}

/// `PROPTEST_CASES` overrides the number.
fn cases(number: u32) -> Config {
    let chosen = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if chosen { Config::default().cases } else { number };
    Config { cases, failure_persistence: None, ..Config::default() }
}
