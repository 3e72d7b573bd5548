//! Attackers that are dialled.

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::proto::{ConnectionLost, DialError};
use glueberry_tokio::{CloseReason, ConnectionState, Event, Events, StateReason};

use crate::hostile::attacker::{MULTISTREAM, events_about};
use crate::hostile::stage::Stage;
use crate::hostile::wire::{Sub, Trap, Wire};
use crate::hostile::within;

/// The victim dials a trap as somebody. Returns why it failed.
async fn falls_into(stage: &Stage, who: Option<PeerId>, play: impl AsyncFn(&Wire)) -> DialError {
    let keys = Keypair::generate_ed25519();
    let mut trap = Trap::new(stage.fabric, &keys).await;
    let who = who.unwrap_or_else(|| keys.public().to_peer_id());
    let events = events_about(stage, who);
    let node = stage.node();
    node.add_peer(who, [trap.address.clone()]).await.expect("peer added");
    let playing = async {
        let wire = trap.dialled().await;
        play(&wire).await;
        // Kept, so that it is not this that ends it.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = playing => {}
        connected = within("the dial ends", node.connect(who)) => {
            drop(connected.expect_err("nobody answers as that peer"));
        }
    }
    let reason = within("the failure is told", failure(events)).await;
    // It would be tried again.
    node.remove_peer(who).await.expect("removed");
    drop(node.cancel_reconnection(who).await);
    drop(node.disconnect(who).await);
    reason
}

async fn failure(mut events: Events) -> DialError {
    loop {
        let event = events.recv().await.expect("it runs");
        if let Event::State(changed) = event
            && changed.state != ConnectionState::Connecting
            && let Some(StateReason::DialFailed(error)) = changed.reason
        {
            return error;
        }
    }
}

/// Answers at the address of somebody else.
pub(in crate::hostile) async fn somebody_else(stage: &Stage) -> String {
    let wanted = Keypair::generate_ed25519().public().to_peer_id();
    let error = falls_into(stage, Some(wanted), async |_| {}).await;
    assert!(matches!(error, DialError::WrongPeer { .. }), "{error:?}");
    "another peer has answered".to_owned()
}

/// Accepts the victim's first substream that is Glueberry's, and returns what it proposes.
async fn proposal(wire: &Wire) -> (Sub, String) {
    loop {
        let mut sub = wire.accept().await.expect("it is open");
        sub.hear().await.expect("multistream");
        sub.say(MULTISTREAM).await.expect("it is taken");
        let name = sub.hear().await.expect("a name");
        if name.starts_with("/glueberry/") {
            return (sub, name);
        }
        drop(sub.say("na").await);
    }
}

/// Refuses every protocol.
pub(in crate::hostile) async fn refuses_everything(stage: &Stage) -> String {
    let error = falls_into(stage, None, async |wire| {
        let (mut sub, _) = proposal(wire).await;
        loop {
            if sub.say("na").await.is_err() || sub.hear().await.is_err() {
                return;
            }
        }
    })
    .await;
    assert_eq!(error, DialError::Session(CloseReason::NoCommonProtocol));
    error.to_string()
}

/// Answers with a name that was not proposed.
pub(in crate::hostile) async fn answers_another_name(stage: &Stage) -> String {
    let error = falls_into(stage, None, async |wire| {
        let (mut sub, _) = proposal(wire).await;
        drop(sub.say("/glueberry/handshake/9.9.9").await);
    })
    .await;
    assert_eq!(error, DialError::Session(CloseReason::HandshakeLost));
    error.to_string()
}

pub(in crate::hostile) async fn hangs_up_at_once(stage: &Stage) -> String {
    let error = falls_into(stage, None, async |wire| wire.close()).await;
    is_lost(&error)
}

fn is_lost(error: &DialError) -> String {
    let is_lost = matches!(
        error,
        DialError::Session(CloseReason::ConnectionLost(
            ConnectionLost::ClosedByPeer { .. }
                | ConnectionLost::Transport(_)
                | ConnectionLost::Reset
        )) | DialError::Transport(_)
    );
    assert!(is_lost, "{error:?}");
    error.to_string()
}

/// Lets the handshake substream wait for an answer.
pub(in crate::hostile) async fn never_answers(stage: &Stage) -> String {
    let error = falls_into(stage, None, async |wire| {
        let _kept = proposal(wire).await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(error, DialError::Session(CloseReason::HandshakeLost));
    error.to_string()
}

/// Agrees on the handshake, and is gone.
pub(in crate::hostile) async fn leaves_once_agreed(stage: &Stage) -> String {
    let keys = Keypair::generate_ed25519();
    let mut trap = Trap::new(stage.fabric, &keys).await;
    let who = keys.public().to_peer_id();
    let mut events = events_about(stage, who);
    let node = stage.node();
    node.add_peer(who, [trap.address.clone()]).await.expect("peer added");
    let playing = async {
        let wire = trap.dialled().await;
        let (mut sub, name) = proposal(&wire).await;
        // Whichever the victim likes best.
        assert!(name.starts_with("/glueberry/handshake/"), "{name}");
        sub.say(&name).await.expect("it is taken");
        // Long enough for the victim to see it.
        while node.connection_state(who) != ConnectionState::Connected {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        wire.close();
    };
    let (connected, ()) =
        within("the dial ends", async { tokio::join!(node.connect(who), playing) }).await;
    connected.expect("it was Connected");
    let reason = within("the end is told", async {
        loop {
            let event = events.recv().await.expect("it runs");
            if let Event::SessionClosed { closed, .. } = event {
                return closed.reason;
            }
        }
    })
    .await;
    assert!(matches!(reason, CloseReason::ConnectionLost(_)), "{reason:?}");
    node.remove_peer(who).await.expect("removed");
    drop(node.cancel_reconnection(who).await);
    drop(node.disconnect(who).await);
    reason.to_string()
}
