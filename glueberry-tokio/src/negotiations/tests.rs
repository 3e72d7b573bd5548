use std::task::Waker;

use super::meter::Negotiation;
use super::*;
use crate::runtime::TokioRuntime;

fn negotiations(substreams: usize) -> Arc<Negotiations> {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current().expect("a runtime"));
    Negotiations::new(&runtime, AtATime { before_established: 16, established: substreams })
}

fn message(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len() + 1).expect("short");
    [&[len], text.as_bytes(), b"\n"].concat()
}

fn has_room(negotiations: &Negotiations) -> bool {
    negotiations.poll_room(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Answers so many proposals with a refusal.
fn refuse(negotiation: &mut Negotiation, count: usize) {
    for _ in 0..count {
        negotiation.has_read(10);
        assert!(!negotiation.has_written(&message("na")));
    }
}

#[test]
fn what_is_agreed_is_seen_however_it_is_cut() {
    let said = [message("/multistream/1.0.0"), message("na"), message("/a")].concat();
    for cut in 0..said.len() {
        let mut negotiation = Negotiation::alone();
        assert!(!negotiation.has_written(&said[..cut]));
        assert!(negotiation.has_written(&said[cut..]), "{cut}");
    }
    // A long name has two bytes of length.
    let long = [&[0xc8, 1][..], b"/", &[b'a'; 198], b"\n"].concat();
    let mut negotiation = Negotiation::alone();
    assert!(!negotiation.has_written(&long[..201]));
    assert!(negotiation.has_written(&long[201..]));
}

#[test]
fn a_list_of_names_is_an_answer_like_a_refusal() {
    let list = [&[5][..], &message("/a"), b"\n"].concat();
    let mut negotiation = Negotiation::alone();
    for _ in 0..32 {
        assert!(!negotiation.has_written(&list));
        negotiation.may_read().expect("it may go on");
    }
    assert!(!negotiation.has_written(&list));
    negotiation.may_read().expect_err("it has no end");
}

#[test]
fn bytes_are_bounded_without_an_answer() {
    let mut negotiation = Negotiation::alone();
    assert_eq!(negotiation.may_read().expect("it begins"), 16 * 1024);
    negotiation.has_read(16 * 1024 - 1);
    assert_eq!(negotiation.may_read().expect("one more"), 1);
    negotiation.has_read(1);
    negotiation.may_read().expect_err("it has no end");
}

#[tokio::test]
async fn who_goes_on_without_end_is_counted_once_for_each() {
    let negotiations = negotiations(64);
    for number in 1..4 {
        let mut negotiation = negotiations.begin();
        refuse(&mut negotiation, 32);
        negotiation.may_read().expect("a handful of names is allowed");
        refuse(&mut negotiation, 1);
        for _ in 0..3 {
            negotiation.may_read().expect_err("it has no end");
        }
        assert_eq!(negotiations.cut_off(), number);
    }
}

#[tokio::test]
async fn before_established_few_are_under_way() {
    let negotiations = negotiations(64);
    let mut under_way: Vec<_> = (0..15).map(|_| negotiations.begin()).collect();
    assert!(has_room(&negotiations));
    under_way.push(negotiations.begin());
    assert!(!has_room(&negotiations));
    under_way.pop();
    assert!(has_room(&negotiations));
    under_way.push(negotiations.begin());
    assert!(!has_room(&negotiations));
    negotiations.established();
    assert!(has_room(&negotiations));
    under_way.extend((16..64).map(|_| negotiations.begin()));
    assert!(!has_room(&negotiations), "as many as it may have substreams");
    under_way.pop();
    assert!(has_room(&negotiations));
}

/// Refused names count as substreams do, and nothing that has ended is forgiven.
#[tokio::test]
async fn a_peer_is_held_to_its_pace() {
    for refused in [0, 3] {
        let negotiations = negotiations(64);
        let mut begun = 0;
        while has_room(&negotiations) {
            refuse(&mut negotiations.begin(), refused);
            begun += refused + 1;
            assert!(begun < 1000, "there is an end");
        }
        assert!(begun >= 256, "{begun}");
        std::future::poll_fn(|cx| negotiations.poll_room(cx)).await;
        drop(negotiations.begin());
    }
}
