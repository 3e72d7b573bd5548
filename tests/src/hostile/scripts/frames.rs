//! yamux, from its frames up.

use std::time::Duration;

use super::NOTHING;
use crate::hostile::attacker::MULTISTREAM;
use crate::hostile::frames::{ANSWERS, DATA, Frames, GO_AWAY, OPENS, PING, RESETS, WINDOW, header};
use crate::hostile::stage::Stage;
use crate::hostile::wire::proposal;
use crate::hostile::within;

async fn dial(stage: &Stage) -> Frames {
    within("an attacker connects", Frames::dial(stage)).await.expect("an attacker connects")
}

/// Writes for as long as the victim reads, and no longer than a moment.
async fn write(frames: &mut Frames, bytes: &[u8]) -> bool {
    let written = tokio::time::timeout(Duration::from_secs(1), frames.write(bytes));
    matches!(written.await, Ok(Ok(())))
}

/// Each costs its receiver more than it carries.
pub(in crate::hostile) async fn frames_of_one_byte(stage: &Stage) -> String {
    let mut frames = dial(stage).await;
    frames.data(OPENS, 1, &proposal(MULTISTREAM)).await.expect("it is taken");
    let names = b"\x03/a\n".repeat(256);
    let one = |byte: &u8| [&header(DATA, 0, 1, 1)[..], &[*byte]].concat();
    let many: Vec<u8> = names.iter().flat_map(one).collect();
    let mut taken = 0;
    while taken < 400 && write(&mut frames, &many).await {
        taken += 1;
    }
    NOTHING.to_owned()
}

/// Sends on substreams that are not open: it is thrown away, and the connection goes on.
pub(in crate::hostile) async fn frames_for_nobody(stage: &Stage) -> String {
    let mut frames = dial(stage).await;
    for number in 0..1000 {
        let sent = frames.data(0, 2 * number + 1, &[7; 4096]);
        within("it is read", sent).await.expect("it is read");
        frames.bare(WINDOW, 0, 2 * number + 1, 7).await.expect("it is read");
    }
    frames.bare(PING, OPENS, 0, 4711).await.expect("it is read");
    frames.flush().await.expect("it is read");
    let answer = within("a ping is answered", frames.until(PING, ANSWERS)).await;
    assert_eq!(answer.expect("an answer"), 4711);
    NOTHING.to_owned()
}

/// Wants an answer to each, and reads none.
pub(in crate::hostile) async fn muxer_pings_unread(stage: &Stage) -> String {
    let mut frames = dial(stage).await;
    let many = header(PING, OPENS, 0, 7).repeat(1000);
    let mut taken = 0;
    while taken < 200 && write(&mut frames, &many).await {
        taken += 1;
    }
    NOTHING.to_owned()
}

/// Opens substreams and resets them, each by two frames of twelve bytes.
pub(in crate::hostile) async fn opened_and_reset(stage: &Stage) -> String {
    let mut frames = dial(stage).await;
    let mut number = 1;
    for _ in 0..40 {
        let mut many = Vec::new();
        for _ in 0..100 {
            many.extend(header(WINDOW, OPENS, number, 0));
            many.extend(header(WINDOW, RESETS, number, 0));
            number += 2;
        }
        // It is read at a pace, or no more.
        if !write(&mut frames, &many).await {
            break;
        }
    }
    NOTHING.to_owned()
}

/// Sends frames that carry nothing, on a substream and on none.
pub(in crate::hostile) async fn empty_frames(stage: &Stage) -> String {
    let mut frames = dial(stage).await;
    frames.data(OPENS, 1, &proposal(MULTISTREAM)).await.expect("it is taken");
    for frame in [header(DATA, 0, 1, 0), header(WINDOW, 0, 1, 1), header(DATA, 0, 77, 0)] {
        let many = frame.repeat(1000);
        let mut taken = 0;
        while taken < 100 && write(&mut frames, &many).await {
            taken += 1;
        }
    }
    NOTHING.to_owned()
}

/// Opens more substreams than there may be.
pub(in crate::hostile) async fn too_many_opened(stage: &Stage) -> String {
    let mut frames = dial(stage).await;
    let opened = async {
        for number in 0..10_000 {
            if frames.bare(WINDOW, OPENS, 2 * number + 1, 0).await.is_err() {
                return;
            }
        }
        drop(frames.flush().await);
    };
    within("it is read or refused", opened).await;
    within("the connection is closed", frames.closed()).await;
    NOTHING.to_owned()
}

/// Says that more is coming than any window allows.
pub(in crate::hostile) async fn frame_above_every_window(stage: &Stage) -> String {
    for len in [256 * 1024 + 1, 1 << 20, u32::MAX] {
        let mut frames = dial(stage).await;
        let first = [header(WINDOW, OPENS, 1, 0), header(DATA, 0, 1, len)].concat();
        frames.write(&first).await.expect("it is taken");
        within("the connection is closed", frames.closed()).await;
    }
    NOTHING.to_owned()
}

/// Sends what is no frame.
pub(in crate::hostile) async fn frames_of_no_kind(stage: &Stage) -> String {
    let mut of_another_version = header(PING, OPENS, 0, 7);
    of_another_version[0] = 9;
    for bytes in [of_another_version, header(77, OPENS, 1, 7), [0xff; 12]] {
        let mut frames = dial(stage).await;
        frames.write(&bytes).await.expect("it is taken");
        within("the connection is closed", frames.closed()).await;
    }
    NOTHING.to_owned()
}

/// Breaks rules that a connection does not survive: the victim says so.
pub(in crate::hostile) async fn rules_of_the_muxer(stage: &Stage) -> String {
    let breaches: [&[[u8; 12]]; 5] = [
        // More room than a number holds; a substream twice; one of the other side's; an answer to no
        // ping.
        &[header(WINDOW, OPENS, 1, 0), header(WINDOW, 0, 1, u32::MAX)],
        &[header(WINDOW, OPENS, 1, u32::MAX)],
        &[header(WINDOW, OPENS, 1, 0), header(WINDOW, OPENS, 1, 0)],
        &[header(WINDOW, OPENS, 2, 0)],
        &[header(PING, ANSWERS, 0, 12_345)],
    ];
    for breach in breaches {
        let mut frames = dial(stage).await;
        frames.write(&breach.concat()).await.expect("it is taken");
        // An error means that it is closed.
        drop(within("it is told", frames.until(GO_AWAY, 0)).await);
    }
    NOTHING.to_owned()
}
