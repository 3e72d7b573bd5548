use futures_util::future::join;
use quinn::{ConnectionError, VarInt};

use super::*;
use crate::negotiations::Negotiation;
use crate::quic::{NegotiateError, Negotiated, propose, respond};

on_every_runtime!(
    first_proposal_is_taken,
    later_proposal_is_taken,
    nothing_in_common,
    data_right_behind_the_agreement,
    data_in_one_packet_with_the_proposal,
    data_in_one_packet_with_the_agreement,
    many_at_once,
    refused_peer_may_go_on_with_data,
    violations,
    losses,
    endless_negotiations_are_cut,
    bad_names_are_not_sent,
);

async fn first_proposal_is_taken(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let (near, far) = negotiate(&pair, &["/b/2", "/a/1"], &["/a/1", "/b/2"]).await;
    assert_eq!(near.unwrap().protocol, "/b/2");
    assert_eq!(far.unwrap().protocol, "/b/2");
}

async fn later_proposal_is_taken(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let (near, far) = negotiate(&pair, &["/x", "/y", "/z", "/a/1"], &["/a/1"]).await;
    assert_eq!(near.unwrap().protocol, "/a/1");
    assert_eq!(far.unwrap().protocol, "/a/1");
}

async fn nothing_in_common(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    for proposals in [&["/x"][..], &["/x", "/y"]] {
        let (near, far) = negotiate(&pair, proposals, &["/a/1"]).await;
        assert!(matches!(near.unwrap_err(), NegotiateError::Refused));
        assert!(matches!(far.unwrap_err(), NegotiateError::Refused));
    }
    let (near, _) = negotiate(&pair, &["/a/1"], &["/a/1"]).await;
    near.expect("the connection is fine");
}

async fn data_right_behind_the_agreement(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let (near, far) = negotiate(&pair, &["/a/1"], &["/a/1"]).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (near, far) = join(exchange(&mut near, &data), exchange(&mut far, &data)).await;
    assert!(near == data && far == data);
}

/// A lazy dialler, as rust-libp2p has them, does not wait for the answer.
async fn data_in_one_packet_with_the_proposal(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let lazy = async {
        let (mut send, mut recv) = pair.open().await;
        send.write_all(&[&framed(HEADER)[..], &framed("/a/1\n"), b"data"].concat()).await.unwrap();
        send.finish().unwrap();
        recv.read_to_end(100).await.unwrap()
    };
    let listening = async {
        let (send, recv) = pair.opened().await;
        let answering = respond(send, recv, names(&["/a/1"]), Negotiation::alone());
        let mut agreed = answering.await.unwrap();
        agreed.send.write_all(b"answer").await.unwrap();
        agreed.send.finish().unwrap();
        agreed.recv.read_to_end(100).await.unwrap()
    };
    let (answer, data) = join(lazy, listening).await;
    assert_eq!(data, b"data");
    assert_eq!(answer, [&framed(HEADER)[..], &framed("/a/1\n"), b"answer"].concat());
}

async fn data_in_one_packet_with_the_agreement(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let eager = [&framed(HEADER)[..], &framed("na\n"), &framed("/b\n"), b"data"].concat();
    let (mut agreed, _far) = against(&pair, &["/a", "/b"], &eager).await.unwrap();
    assert_eq!(agreed.protocol, "/b");
    let mut data = [0; 4];
    agreed.recv.read_exact(&mut data).await.unwrap();
    assert_eq!(&data, b"data");
}

async fn many_at_once(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let all = (0..30).map(|_| negotiate(&pair, &["/x", "/a/1"], &["/a/1"]));
    for (near, far) in futures_util::future::join_all(all).await {
        assert_eq!(near.unwrap().protocol, "/a/1");
        assert_eq!(far.unwrap().protocol, "/a/1");
    }
}

/// A lazy dialler's data behind a proposal that is refused makes no sense, but is no violation.
async fn refused_peer_may_go_on_with_data(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let said = [&framed(HEADER)[..], &framed("/x\n"), &framed("data")].concat();
    let error = answering(&pair, &said).await.unwrap_err();
    assert!(matches!(error, NegotiateError::Refused), "{error:?}");
}

async fn violations(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let cases: [&[u8]; 7] = [
        &b"GET / HTTP/1.1\r\n".repeat(9),
        &framed("/multistream/9.9.9\n"),
        &framed(""),
        &[0xff, 0xff, 0xff],
        &[0x80, 0x00],
        &framed("/a/1\n"),
        &[&framed(HEADER)[..], &[4, b'/', 0xff, 0xff, b'\n']].concat(),
    ];
    for said in cases {
        let error = answering(&pair, said).await.unwrap_err();
        let violation = matches!(error, NegotiateError::Violation(_));
        assert!(violation, "a dialler says {said:x?}: {error:?}");
    }
    let cases: [&[u8]; 4] = [
        &b"HTTP/1.1 200 OK\r\n".repeat(9),
        &[0xff, 0xff, 0xff],
        &[&framed(HEADER)[..], &framed("/b\n")].concat(),
        &[&framed(HEADER)[..], &framed("ls\n")].concat(),
    ];
    for said in cases {
        let error = against(&pair, &["/a/1"], said).await.unwrap_err();
        let violation = matches!(error, NegotiateError::Violation(_));
        assert!(violation, "a listener says {said:x?}: {error:?}");
    }
}

async fn losses(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    let proposing = async |how: fn(&mut quinn::SendStream, &mut quinn::RecvStream)| {
        let near = async {
            let (send, recv) = pair.open().await;
            propose(send, recv, &names(&["/a/1"])).await.unwrap_err()
        };
        let far = async {
            let (mut send, mut recv) = pair.opened().await;
            recv.read_exact(&mut [0; 20]).await.unwrap();
            how(&mut send, &mut recv);
            (send, recv)
        };
        join(near, far).await.0
    };
    let error = proposing(|send, _| send.reset(VarInt::from_u32(5)).unwrap()).await;
    assert!(matches!(error, NegotiateError::Reset(code) if code == VarInt::from_u32(5)));
    let error = proposing(|send, _| send.finish().unwrap()).await;
    assert!(matches!(error, NegotiateError::Ended), "{error:?}");

    let near = async {
        let (mut send, recv) = pair.open().await;
        send.write_all(&framed(HEADER)[..7]).await.unwrap();
        send.finish().unwrap();
        recv
    };
    let far = async {
        let (send, recv) = pair.opened().await;
        respond(send, recv, names(&["/a/1"]), Negotiation::alone()).await.unwrap_err()
    };
    let (_, error) = join(near, far).await;
    assert!(matches!(error, NegotiateError::Ended), "{error:?}");

    let near = async {
        let (send, recv) = pair.open().await;
        propose(send, recv, &names(&["/a/1"])).await.unwrap_err()
    };
    let far = async {
        let _opened = pair.opened().await;
        pair.accepted.close(VarInt::from_u32(1), b"");
    };
    let (error, ()) = join(near, far).await;
    assert!(
        matches!(error, NegotiateError::Lost(ConnectionError::ApplicationClosed(_))),
        "{error:?}"
    );
}

async fn endless_negotiations_are_cut(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    for proposal in ["/x\n", "ls\n"] {
        let said = [&framed(HEADER)[..], &framed(proposal).repeat(33)].concat();
        let error = answering(&pair, &said).await.unwrap_err();
        assert!(matches!(error, NegotiateError::TooLong), "{error:?}");
    }
    let said = [&framed(HEADER)[..], &framed("/x\n").repeat(32), &framed("/a/1\n")].concat();
    let agreed = answering(&pair, &said).await.unwrap();
    assert_eq!(agreed.protocol, "/a/1");
    let long = format!("/{}\n", "x".repeat(100));
    let said = [&framed(HEADER)[..], &framed(&long).repeat(200)].concat();
    let error = answering(&pair, &said).await.unwrap_err();
    assert!(matches!(error, NegotiateError::TooLong), "{error:?}");

    let said = framed(HEADER).repeat(10_000);
    let error = against(&pair, &["/a"], &said).await.unwrap_err();
    assert!(matches!(error, NegotiateError::TooLong), "{error:?}");
}

async fn bad_names_are_not_sent(runtime: Arc<dyn Runtime>) {
    let pair = Pair::new(&runtime).await;
    for name in ["", "a", "/a\n", &format!("/{}", "a".repeat(1024))] {
        let (send, recv) = pair.open().await;
        let error = propose(send, recv, &names(&["/a", name])).await.unwrap_err();
        assert!(matches!(error, NegotiateError::BadName), "{error:?}");
    }
}

type Outcome = Result<Negotiated, NegotiateError>;

async fn negotiate(pair: &Pair, proposals: &[&str], known: &[&str]) -> (Outcome, Outcome) {
    let near = async {
        let (send, recv) = pair.open().await;
        propose(send, recv, &names(proposals)).await
    };
    let far = async {
        let (send, recv) = pair.opened().await;
        respond(send, recv, names(known), Negotiation::alone()).await
    };
    join(near, far).await
}

/// Our listener against a dialler that says just this.
async fn answering(pair: &Pair, said: &[u8]) -> Outcome {
    let near = async {
        let (mut send, recv) = pair.open().await;
        // The listener may have hung up before the end.
        let _ = send.write_all(said).await;
        (send, recv)
    };
    let far = async {
        let (send, recv) = pair.opened().await;
        respond(send, recv, names(&["/a/1"]), Negotiation::alone()).await
    };
    join(near, far).await.1
}

/// Our dialler against a listener that says just this, and stays.
async fn against(
    pair: &Pair,
    proposals: &[&str],
    said: &[u8],
) -> Result<(Negotiated, (quinn::SendStream, quinn::RecvStream)), NegotiateError> {
    let near = async {
        let (send, recv) = pair.open().await;
        propose(send, recv, &names(proposals)).await
    };
    let far = async {
        let (mut send, recv) = pair.opened().await;
        let _ = send.write_all(said).await;
        (send, recv)
    };
    let (near, far) = join(near, far).await;
    Ok((near?, far))
}

async fn exchange(agreed: &mut Negotiated, data: &[u8]) -> Vec<u8> {
    let Negotiated { send, recv, .. } = agreed;
    let write = async {
        send.write_all(data).await.unwrap();
        send.finish().unwrap();
    };
    join(write, recv.read_to_end(data.len())).await.1.unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn framed(message: &str) -> Vec<u8> {
    let len = u8::try_from(message.len()).unwrap();
    [&[len], message.as_bytes()].concat()
}

const HEADER: &str = "/multistream/1.0.0\n";
