//! Messages that are passed on in their sender's turn.

use glueberry_tokio::Config;

use crate::support::{STREAM, pair};

/// Nothing else runs between the calls: there is one thread, and no await.
#[test]
fn a_message_goes_out_in_its_senders_turn_and_those_behind_it_share_the_tasks() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (a, mut b) = pair(Config::default()).await;
        let to = b.id();
        let sent = || a.node.peer_statistics(to).unwrap().streams[STREAM].messages_sent;
        // This one opens the substream, which takes the task.
        a.node.send(to, STREAM, "0").await.unwrap();
        assert_eq!(b.message().await.data, "0");
        for round in 0..3_u64 {
            let before = 1 + 3 * round;
            assert_eq!(sent(), before);
            for number in ["1", "2", "3"] {
                a.node.try_send(to, STREAM, number).unwrap();
                assert_eq!(sent(), before + 1, "message {number}");
            }
            for number in ["1", "2", "3"] {
                assert_eq!(b.message().await.data, number);
            }
        }
    });
}
