//! What substreams are for, said badly: multistream-select, and what is none.

use std::time::Duration;

use futures_util::future::join_all;
use glueberry_tokio::proto::PeerMisbehaved;
use glueberry_tokio::{CloseReason, ConnectionState};

use super::NOTHING;
use crate::hostile::attacker::{Attacker, HANDSHAKE, MULTISTREAM};
use crate::hostile::stage::Stage;
use crate::hostile::wire::{Sub, proposal};
use crate::hostile::within;

/// Many strangers begin a negotiation and never say what for.
pub(in crate::hostile) async fn never_named(stage: &Stage) -> String {
    let (mut strangers, mut unnamed) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let stranger = stage.attacker().await;
        let mut sub = stranger.wire.open().await.expect("a substream");
        sub.say(MULTISTREAM).await.expect("it is taken");
        strangers.push(stranger);
        unnamed.push(sub);
    }
    for stranger in &strangers {
        stranger.is_closed().await;
    }
    NOTHING.to_owned()
}

/// Writes names a byte at a time on several substreams.
pub(in crate::hostile) async fn creeping_names(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    let creeping = (0..8).map(|_| async {
        let mut sub = attacker.wire.open().await.expect("a substream");
        sub.say(MULTISTREAM).await.expect("it is taken");
        // A name that is longer than there is time for.
        let name = proposal(&"/".repeat(120));
        for byte in name {
            if sub.write(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        panic!("the whole name was taken");
    });
    within("creeping names are given up", join_all(creeping)).await;
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Proposes one unknown name after the other, for as long as somebody listens.
pub(in crate::hostile) async fn thousands_of_proposals(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    let mut sub = attacker.wire.open().await.expect("a substream");
    let proposing = async {
        sub.say(MULTISTREAM).await?;
        sub.hear().await?;
        loop {
            let many: Vec<u8> = (0..50).flat_map(|at| proposal(&format!("/none/{at}"))).collect();
            sub.write(&many).await?;
            for _ in 0..50 {
                sub.hear().await?;
            }
        }
    };
    let ended: std::io::Result<()> = within("the substream is given up", proposing).await;
    ended.expect_err("it would go on for ever");
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Many peers propose names without end, each on many substreams, of which each that is broken off is
/// followed by another.
pub(in crate::hostile) async fn proposals_of_a_crowd(stage: &Stage) -> String {
    let mut attackers = Vec::new();
    for _ in 0..8 {
        let mut attacker = stage.attacker().await;
        let handshake = attacker.established().await;
        attackers.push((attacker, handshake));
    }
    let proposing = attackers.iter().map(|(attacker, _)| propose_for_ever(attacker));
    within("all are cut off", join_all(proposing)).await;
    let how = PeerMisbehaved::EndlessNegotiations { count: 17 };
    let mut reason = String::new();
    for (attacker, _) in &mut attackers {
        reason = attacker.is_cut_off(CloseReason::Misbehaved(how.clone())).await;
    }
    reason
}

/// The same, of strangers that do nothing else, and so have no session.
pub(in crate::hostile) async fn proposals_of_strangers(stage: &Stage) -> String {
    let mut strangers = Vec::new();
    for _ in 0..8 {
        strangers.push(stage.attacker().await);
    }
    within("all are cut off", join_all(strangers.iter().map(propose_for_ever))).await;
    for stranger in &mut strangers {
        stranger.is_closed().await;
        assert_eq!(stage.node().connection_state(stranger.id), ConnectionState::Disconnected);
    }
    NOTHING.to_owned()
}

/// Proposes a few names on one substream after the other, and says each time that it was nothing.
pub(in crate::hostile) async fn few_proposals_by_hundreds(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    let _handshake = attacker.established().await;
    let proposing = (0..16).map(async |_| {
        loop {
            let mut sub = attacker.wire.open().await.expect("a substream");
            sub.say(MULTISTREAM).await.expect("it is taken");
            for _ in 0..4 {
                sub.write(&proposal("/none").repeat(4)).await.expect("it is taken");
            }
            for _ in 0..17 {
                sub.hear().await.expect("it is answered");
            }
            sub.reset();
        }
    });
    let for_ever = tokio::time::timeout(Duration::from_secs(3), join_all(proposing)).await;
    for_ever.expect_err("nothing of it is misbehaviour");
    attacker.is_contained().await;
    NOTHING.to_owned()
}

/// Proposes names on many substreams for as long as the connection lives.
async fn propose_for_ever(attacker: &Attacker<'_>) {
    let proposing = (0..60).map(async |_| {
        while let Ok(mut sub) = attacker.wire.open().await {
            drop(propose_on(&mut sub).await);
        }
    });
    tokio::select! {
        _ = join_all(proposing) => {}
        _ = attacker.wire.closed() => {}
    }
}

/// Proposes names until the substream is broken off.
async fn propose_on(sub: &mut Sub) -> std::io::Result<()> {
    let many: Vec<u8> = (0..50).flat_map(|at| proposal(&format!("/none/{at}"))).collect();
    sub.say(MULTISTREAM).await?;
    sub.hear().await?;
    loop {
        sub.write(&many).await?;
        for _ in 0..50 {
            sub.hear().await?;
        }
    }
}

pub(in crate::hostile) async fn overlong_name(stage: &Stage) -> String {
    junk(stage, &[&proposal(MULTISTREAM)[..], &[0xff, 0xff, 3], &[b'/'; 65535]].concat()).await
}

pub(in crate::hostile) async fn unterminated_name(stage: &Stage) -> String {
    junk(stage, &[&proposal(MULTISTREAM)[..], &[20], &[b'/'; 20]].concat()).await
}

pub(in crate::hostile) async fn endless_length(stage: &Stage) -> String {
    junk(stage, &[0xff; 1000]).await
}

pub(in crate::hostile) async fn not_utf8(stage: &Stage) -> String {
    junk(stage, &[&proposal(MULTISTREAM)[..], &[4, b'/', 0xff, 0xfe, b'\n']].concat()).await
}

pub(in crate::hostile) async fn empty_name(stage: &Stage) -> String {
    junk(stage, &[&proposal(MULTISTREAM)[..], &[0; 100]].concat()).await
}

pub(in crate::hostile) async fn http(stage: &Stage) -> String {
    junk(stage, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await
}

/// Says something that is no negotiation, before the handshake and after it. It costs the substream
/// and no more.
async fn junk(stage: &Stage, junk: &[u8]) -> String {
    let mut attacker = stage.attacker().await;
    for is_established in [false, true] {
        if is_established {
            attacker.established().await;
        }
        let mut sub = attacker.wire.open().await.expect("a substream");
        // It may be broken off before all is said.
        drop(sub.write(junk).await);
        // What waits for more has no more coming.
        sub.finish().await;
        within("the substream is given up", sub.ended()).await;
    }
    attacker.is_contained().await;
    attacker.wire.close();
    matches!(attacker.session_ends().await, CloseReason::ConnectionLost(_))
        .then(|| NOTHING.to_owned())
        .expect("it ended because the attacker left")
}

/// Opens substreams by names that nobody knows, by hundreds, before the handshake and after it.
pub(in crate::hostile) async fn flood_of_unknown_names(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    for is_established in [false, true] {
        if is_established {
            attacker.established().await;
        }
        for number in 0..100 {
            let name = match number % 3 {
                0 => format!("/glueberry/stream/unknown{number}/1.0.0"),
                1 => format!("{HANDSHAKE}/{number}"),
                _ => format!("/unknown/{number}"),
            };
            let (_, answer) = within("it is answered", attacker.propose(&name)).await.expect("it");
            assert_eq!(answer, "na", "{name}");
        }
    }
    attacker.is_contained().await;
    NOTHING.to_owned()
}
