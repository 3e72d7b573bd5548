//! Who takes places: many identities, one identity many times, one that it is not, and one that is
//! banned.

use std::time::Instant;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{CloseReason, ConnectionState};

use super::NOTHING;
use crate::hostile::attacker::{HANDSHAKE, MULTISTREAM};
use crate::hostile::stage::Stage;
use crate::hostile::within;

/// Gets Connected and leaves, more often than a peer may in a minute.
pub(in crate::hostile) async fn same_identity_again_and_again(stage: &Stage) -> String {
    let keys = Keypair::generate_ed25519();
    let (began, mut granted, mut refused) = (Instant::now(), 0, 0);
    for _ in 0..75 {
        let dial = within("it is answered", stage.attacker_with(keys.clone())).await;
        let Ok(mut attacker) = dial else {
            refused += 1;
            continue;
        };
        // It may be cut off before it is answered, or behind that.
        let _proposed = within("it is answered", attacker.propose(HANDSHAKE)).await;
        if within("it is granted or refused", attacker.is_granted()).await {
            granted += 1;
            attacker.wire.close();
            attacker.session_ends().await;
        } else {
            refused += 1;
        }
    }
    // Sixty at once, and one more each second: on a busy machine all of them may be in time.
    assert!(granted <= 61 + began.elapsed().as_secs(), "{granted} were granted");
    assert!(granted > 0 || refused == 75);
    format!("{NOTHING} (the last time {granted} of 75 let in)")
}

/// Gets Connected and leaves, each time as somebody else.
pub(in crate::hostile) async fn fresh_identities(stage: &Stage) -> String {
    let mut reason = None;
    for _ in 0..60 {
        let mut attacker = stage.attacker().await;
        attacker.connected().await;
        attacker.wire.close();
        reason = Some(attacker.session_ends().await);
        assert!(matches!(reason, Some(CloseReason::ConnectionLost(_))), "{reason:?}");
    }
    reason.map_or_else(String::new, |reason| reason.to_string())
}

/// Has several connections, and wants a session on each.
pub(in crate::hostile) async fn same_identity_at_once(stage: &Stage) -> String {
    let keys = Keypair::generate_ed25519();
    let mut first = stage.attacker_with(keys.clone()).await.expect("it connects");
    first.established().await;
    let dialling = async {
        let (mut others, mut subs) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            // A refusal may come before the dial is through, and the handshake may be left
            // unanswered.
            if let Ok(other) = within("it is answered", stage.attacker_with(keys.clone())).await {
                let mut sub = other.wire.open().await.ok();
                if let Some(sub) = &mut sub {
                    drop(sub.say(MULTISTREAM).await);
                    drop(sub.say(HANDSHAKE).await);
                }
                others.push(other);
                subs.push(sub);
            }
        }
        for other in &others {
            other.is_closed().await;
        }
    };
    // The session lives, which a probe shows, so none of them replaces it. Who has one refuses the
    // probe.
    let mut is_over = false;
    tokio::select! {
        _ = first.wire.victims("") => is_over = true,
        () = dialling => {}
    }
    if is_over {
        panic!("the session is over: {:?}", first.session_ends().await);
    }
    assert_eq!(stage.node().connection_state(first.id), ConnectionState::Established);
    first.is_contained().await;
    NOTHING.to_owned()
}

/// Has the victim's own key.
pub(in crate::hostile) async fn victims_own_key(stage: &Stage) -> String {
    for _ in 0..10 {
        let dial = within("it is answered", stage.attacker_with(stage.victim.keys.clone())).await;
        if let Ok(mut attacker) = dial {
            let proposed = within("it is answered", attacker.propose(HANDSHAKE)).await;
            assert!(proposed.is_err(), "it is no peer");
            attacker.is_closed().await;
            assert!(attacker.has_no_event());
        }
    }
    NOTHING.to_owned()
}

/// Is banned, and dials on.
pub(in crate::hostile) async fn banned_and_back(stage: &Stage) -> String {
    let mut attacker = stage.attacker().await;
    attacker.established().await;
    stage.node().blacklist_peer(attacker.id, None).await.expect("banned");
    let reason = attacker.is_cut_off(CloseReason::Blacklisted).await;
    attacker.is_disconnected().await;
    while !attacker.has_no_event() {}
    for _ in 0..60 {
        let dial = within("it is answered", stage.attacker_with(attacker.keys.clone())).await;
        if let Ok(again) = dial {
            let proposed = within("it is answered", again.propose(HANDSHAKE)).await;
            assert!(proposed.is_err(), "it is banned");
            again.is_closed().await;
        }
    }
    assert!(attacker.has_no_event(), "nothing is reported of who is banned");
    reason
}
