//! Named streams: too many substreams, too short ones, and such as are not read.

use std::time::Duration;

use glueberry_tokio::{ConnectionState, ErrorCode, Event};

use super::NOTHING;
use crate::hostile::attacker::{Attacker, MULTISTREAM};
use crate::hostile::host::{STREAM, STREAMS};
use crate::hostile::stage::Stage;
use crate::hostile::wire::Sub;
use crate::hostile::within;

const NAME: &str = "/glueberry/stream/chat/1.0.0";

/// Opens as many substreams of one stream as it can, and keeps them.
pub(in crate::hostile) async fn flood_of_substreams(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    attacker.established().await;
    let mut kept = Vec::new();
    for _ in 0..200 {
        // At some point there are no more, or they are broken off.
        let opened = tokio::time::timeout(Duration::from_millis(500), attacker.propose(NAME)).await;
        match opened {
            Ok(Ok((sub, answer))) if answer == NAME => kept.push(sub),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    // The first is the one that is read.
    attacker.is_heard_on(&mut kept[0]).await;
    let mut open = 0;
    for sub in &mut kept {
        let ended = tokio::time::timeout(Duration::from_millis(20), sub.ended()).await;
        open += usize::from(ended.is_err());
    }
    assert!(open <= 64, "{open} substreams are open");
    format!("{NOTHING} ({open} of 200 substreams kept)")
}

pub(in crate::hostile) async fn ended_by_thousands(stage: &Stage) -> String {
    churn(stage, false).await
}

pub(in crate::hostile) async fn reset_by_thousands(stage: &Stage) -> String {
    churn(stage, true).await
}

/// Opens substreams and is done with them at once, some of them before the name is answered.
async fn churn(stage: &Stage, is_reset: bool) -> String {
    let mut attacker = stage.attacker().await;
    attacker.established().await;
    let churning = async {
        for number in 0..1000 {
            let opened = async {
                let mut sub = attacker.wire.open().await?;
                sub.say(MULTISTREAM).await?;
                sub.say(NAME).await?;
                if number % 4 == 0 {
                    sub.hear().await?;
                    sub.hear().await?;
                }
                std::io::Result::Ok(sub)
            };
            if let Ok(mut sub) = within("a substream opens", opened).await {
                if is_reset {
                    sub.reset();
                } else {
                    sub.finish().await;
                }
            }
        }
    };
    tokio::select! {
        () = churning => {}
        none = attacker.wire.victims("") => panic!("it is closed: {:?}", none.err()),
    }
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Ends its half first of each substream on which the victim has said something, and opens another.
pub(in crate::hostile) async fn ended_before_the_answer(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    let (mut record, mut kept) = (0, Vec::new());
    for number in 0..70 {
        let talking = async {
            // Where all places are taken, one is free in time.
            loop {
                match talk_once(stage, &attacker, &mut record).await {
                    Ok(sub) => return kept.push(sub),
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
        };
        let what = format!("there is a place for substream {number}");
        tokio::select! {
            () = within(&what, talking) => {}
            none = attacker.wire.victims("") => panic!("it is closed: {:?}", none.err()),
        }
    }
    let state = stage.node().connection_state(attacker.id);
    assert_eq!(state, ConnectionState::Established);
    NOTHING.to_owned()
}

/// Says something, hears something, and ends its half before the victim does.
async fn talk_once(
    stage: &Stage,
    attacker: &Attacker<'_>,
    record: &mut u8,
) -> std::io::Result<Sub> {
    let (mut sub, answer) = attacker.propose(NAME).await?;
    if answer != NAME {
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    }
    *record += 1;
    let said = [*record; 8];
    sub.write(&attacker.record(*record, &said)).await?;
    let heard = stage.victim.hears(attacker.id, &said);
    if tokio::time::timeout(Duration::from_secs(1), heard).await.is_err() {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    stage.node().send(attacker.id, STREAM, "answer").await.map_err(std::io::Error::other)?;
    sub.read(4).await?;
    sub.finish().await;
    Ok(sub)
}

/// Many peers send nearly all of large messages, on every stream, and keep the rest.
pub(in crate::hostile) async fn large_messages_in_parts(stage: &Stage) -> String {
    let mut attackers = Vec::new();
    for _ in 0..8 {
        let mut attacker = stage.attacker().await;
        attacker.established().await;
        let mut subs = Vec::new();
        for stream in STREAMS {
            subs.push(attacker.stream(stream).await);
        }
        attackers.push((attacker, subs));
    }
    let part = vec![7; 1 << 20];
    let sending = attackers.iter_mut().flat_map(|(_, subs)| subs).map(|sub| async {
        let sent = async {
            sub.write(&(10_u32 << 20).to_be_bytes()).await?;
            for _ in 0..9 {
                sub.write(&part).await?;
            }
            std::io::Result::Ok(())
        };
        // Where the account is full it is not read.
        drop(tokio::time::timeout(Duration::from_secs(2), sent).await);
    });
    futures_util::future::join_all(sending).await;
    let held = stage.held().await;
    assert!(held > 8 << 20, "it is an attack: {held} bytes");
    assert!(held < 136 << 20, "strangers have half of the account: {held} bytes");
    for (attacker, _) in &attackers {
        let state = stage.node().connection_state(attacker.id);
        assert_eq!(state, ConnectionState::Established);
    }
    format!("{NOTHING} ({} MiB held)", held >> 20)
}

/// Reads nothing of what the victim sends, until its queue is full. Then it leaves, and each
/// message is accounted for.
pub(in crate::hostile) async fn never_reads(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    attacker.established().await;
    let mut sub = attacker.stream(STREAM).await;
    attacker.is_heard_on(&mut sub).await;
    let text = bytes::Bytes::from(vec![7; 64 << 10]);
    let mut accepted = 0_u64;
    let filling = async {
        loop {
            match stage.node().try_send(attacker.id, STREAM, text.clone()) {
                Ok(()) => accepted += 1,
                Err(error) if error.code() == ErrorCode::Backpressure => {
                    // It may still be on its way to the windows.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if stage.node().try_send(attacker.id, STREAM, text.clone()).is_err() {
                        return;
                    }
                    accepted += 1;
                }
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    within("the queue is full", filling).await;
    attacker.wire.close();
    let (unsent, in_doubt) = attacker
        .event(|event| match event {
            Event::SessionClosed { closed, .. } => Some((closed.unsent, closed.in_doubt)),
            _ => None,
        })
        .await;
    assert_eq!(u64::try_from(unsent).expect("64 bits") + in_doubt, accepted);
    format!("{accepted} accepted, {unsent} unsent, {in_doubt} in doubt")
}

/// An attacker to whom the victim has begun to send.
async fn sent_to(stage: &Stage) -> (Attacker<'_>, Sub) {
    let mut attacker = stage.attacker().await;
    attacker.established().await;
    stage.node().send(attacker.id, STREAM, "first").await.expect("it is queued");
    let sub = victims_stream(&attacker).await;
    (attacker, sub)
}

/// Waits until the victim opens the substream of a stream, which is left unanswered.
async fn victims_stream(attacker: &Attacker<'_>) -> Sub {
    let victims = attacker.wire.victims(NAME);
    within("the victim opens a substream", victims).await.expect("it is open")
}

async fn is_interrupted(attacker: &mut Attacker<'_>) -> String {
    let in_doubt = attacker
        .event(|event| match event {
            Event::StreamInterrupted { in_doubt, .. } => Some(in_doubt),
            _ => None,
        })
        .await;
    assert_eq!(in_doubt, 1);
    attacker.is_contained().await;
    format!("stream interrupted, {in_doubt} in doubt")
}

/// Accepts the victim's substream, and then does not want what comes.
pub(in crate::hostile) async fn stopped(stage: &Stage) -> String {
    let (mut attacker, mut sub) = sent_to(stage).await;
    sub.say(NAME).await.expect("it is taken");
    sub.read(4).await.expect("a record comes");
    match &mut sub {
        Sub::Quic(_, recv) => drop(recv.stop(9_u32.into())),
        // yamux has no such thing.
        Sub::Muxed(_) => {
            sub.reset();
            return is_interrupted(&mut attacker).await;
        }
    }
    // It is noticed by the next message, which is lost, too.
    let send = async {
        loop {
            stage.node().send(attacker.id, STREAM, "second").await.expect("it is queued");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let events = crate::hostile::attacker::events_about(stage, attacker.id);
    let in_doubt = tokio::select! {
        () = send => 0,
        in_doubt = within("it is noticed", interruption(events)) => in_doubt,
    };
    assert!(in_doubt >= 1);
    attacker.is_contained().await;
    "stream interrupted, some in doubt".to_owned()
}

/// Accepts each of the victim's substreams, and breaks it off.
pub(in crate::hostile) async fn streams_reset(stage: &Stage) -> String {
    let (mut attacker, mut sub) = sent_to(stage).await;
    for number in 0..20 {
        sub.say(NAME).await.expect("it is taken");
        sub.read(4).await.expect("a record comes");
        sub.reset();
        let in_doubt = attacker
            .event(|event| match event {
                Event::StreamInterrupted { in_doubt, .. } => Some(in_doubt),
                _ => None,
            })
            .await;
        assert_eq!(in_doubt, 1, "{number}");
        stage.node().send(attacker.id, STREAM, "again").await.expect("it is queued");
        sub = victims_stream(&attacker).await;
    }
    sub.say(NAME).await.expect("it is taken");
    attacker.is_contained().await;
    "stream interrupted, 1 in doubt".to_owned()
}

/// Refuses each of the victim's substreams, until it gives up.
pub(in crate::hostile) async fn streams_refused(stage: &Stage) -> String {
    let (mut attacker, mut sub) = sent_to(stage).await;
    let events = crate::hostile::attacker::events_about(stage, attacker.id);
    sub.say("na").await.expect("it is taken");
    let refusing = async {
        loop {
            victims_stream(&attacker).await.say("na").await.expect("it is taken");
        }
    };
    let refused = refusal(events);
    let unsent = tokio::select! {
        () = refusing => 0,
        unsent = within("the victim gives up", refused) => unsent,
    };
    assert_eq!(unsent, 1);
    attacker.is_contained().await;
    format!("stream refused, {unsent} unsent")
}

async fn interruption(mut events: glueberry_tokio::Events) -> u64 {
    loop {
        let event = events.recv().await.expect("it runs");
        if let Event::StreamInterrupted { in_doubt, .. } = event {
            return in_doubt;
        }
    }
}

async fn refusal(mut events: glueberry_tokio::Events) -> usize {
    loop {
        if let Event::StreamRefused { unsent, .. } = events.recv().await.expect("it runs") {
            return unsent;
        }
    }
}

/// Lets the victim's substream wait for an answer: it is given up, and another is tried.
pub(in crate::hostile) async fn stream_never_answered(stage: &Stage) -> String {
    let (mut attacker, mut sub) = sent_to(stage).await;
    within("it is given up", sub.ended()).await;
    let mut second = victims_stream(&attacker).await;
    second.say(NAME).await.expect("it is taken");
    second.read(4).await.expect("the record comes");
    attacker.is_contained().await;
    NOTHING.to_owned()
}
