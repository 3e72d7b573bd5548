//! The session of the two-machine form, and its substreams.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::BytesMut;
use glueberry_proto::testing::pair::{A, B, Pair};
use glueberry_proto::{
    Action, Admission, Event, Ingest, Naming, NewConnection, Node, NodeAction, Origin, Seed,
    Session, SubstreamBuffer, SubstreamId,
};

use super::Row;
use super::setup::{NOW, after, chat, config, dialling, identity, key};

/// A session that has dialled.
fn outbound() -> Session {
    let mut node = dialling();
    let Some(NodeAction::Dial { dial, .. }) = node.poll_action() else { panic!("a dial") };
    let connection =
        NewConnection { peer: key(2), origin: Origin::Dialled(dial), naming: Naming::Preamble };
    let Admission::Accept(session) = node.handle_connection(NOW, connection) else {
        panic!("a session")
    };
    *session
}

fn opened(session: &mut Session) -> SubstreamId {
    match session.poll_action() {
        Some(Action::OpenSubstream { substream, .. }) => {
            session.handle_opened(NOW, substream, None);
            substream
        }
        other => panic!("{other:?}"),
    }
}

/// Two nodes with an Established session.
fn pair() -> Pair<()> {
    let nodes = [1, 2].map(|number| {
        Node::new(NOW, identity(number), config(), Seed::from_bytes([number; 32])).unwrap()
    });
    let mut pair = Pair::new(Naming::Preamble, nodes, ());
    pair.establish(&["chat"]);
    pair
}

fn oldest(session: &Session) -> String {
    session.owed().first().map_or_else(|| "nothing".into(), ToString::to_string)
}

/// Lets time pass until the session ends, and returns how it says that it did.
fn end(session: &mut Session) -> String {
    for _ in 0..100 {
        while let Some(event) = session.poll_event() {
            if let Event::Closed(closed) = event {
                return closed.to_string();
            }
        }
        let Some(at) = session.poll_timeout() else { return "nothing".into() };
        session.handle_timeout(at);
    }
    panic!("it goes on");
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        misuse: "actions of a session are not taken",
        happens: "it ends, because its handshake substream is not opened",
        told: "the handshake substream was lost (1 actions were not taken since 0.000000s)",
        run: || end(&mut outbound()),
    },
    Row {
        misuse: "a substream is neither opened nor refused",
        happens: "the session ends",
        told: "the handshake substream was lost \
               (substream-0 was not reported as open since 0.000000s)",
        run: || {
            let mut session = outbound();
            _ = session.poll_action();
            end(&mut session)
        },
    },
    Row {
        misuse: "a substream is reported as open twice",
        happens: "the first counts",
        told: "nothing",
        run: || {
            let mut session = outbound();
            let id = opened(&mut session);
            session.handle_opened(NOW, id, None);
            session.handle_open_failed(NOW, id, glueberry_proto::OpenError::Failed);
            "nothing".into()
        },
    },
    Row {
        misuse: "`poll_write` is never called",
        happens: "the session ends",
        told: "the handshake substream was lost \
               (nothing was asked for to be written on substream-0 since 0.000000s)",
        run: || {
            let mut session = outbound();
            opened(&mut session);
            while session.poll_action().is_some() {}
            end(&mut session)
        },
    },
    Row {
        misuse: "more is reported as written than the chunk has",
        happens: "a debug build panics, another counts the chunk",
        told: "more was written than the chunk has",
        run: || {
            let mut session = outbound();
            let mut buffer = SubstreamBuffer::new(opened(&mut session));
            let len = buffer.chunk(&mut session).unwrap().len();
            let result = catch_unwind(AssertUnwindSafe(|| buffer.wrote(len + 1)));
            match result {
                Err(panic) => (*panic.downcast::<&str>().unwrap()).into(),
                Ok(()) => "more was written than the chunk has".into(),
            }
        },
    },
    Row {
        misuse: "bytes come on a substream that there is not",
        happens: "they are dropped",
        told: "Discard",
        run: || {
            let mut session = outbound();
            let id = opened(&mut session);
            session.handle_substream_end(NOW, id, glueberry_proto::SubstreamEnd::Aborted, &[]);
            let ingest = session.handle_data(NOW, id, &mut BytesMut::from(&b"bytes"[..]));
            format!("{ingest:?}")
        },
    },
    Row {
        misuse: "bytes are handed in though the substream is paused",
        happens: "they stay in the buffer",
        told: "Paused",
        run: || {
            let mut session = outbound();
            let Some(Action::OpenSubstream { substream, .. }) = session.poll_action() else {
                panic!("it opens")
            };
            let mut bytes = BytesMut::from(&b"bytes"[..]);
            let ingest = session.handle_data(NOW, substream, &mut bytes);
            assert_eq!((ingest, &bytes[..]), (Ingest::Paused, &b"bytes"[..]));
            format!("{ingest:?}")
        },
    },
    Row {
        misuse: "`ResumeRead` is ignored",
        happens: "the stream stops; others go on",
        told: "nothing was read on",
        run: || {
            let mut pair = pair();
            // More than the queue of received messages takes.
            let (now, sender) = (pair.now, pair.session(A));
            while sender.send(now, &chat(), vec![7; 500_000].into()).is_ok() {}
            pair.run();
            let session = pair.session(B);
            while session.poll_message(&chat()).is_some() {}
            while session.poll_action().is_some() {}
            oldest(session).split(" substream").next().unwrap().into()
        },
    },
    Row {
        misuse: "the end of a half is not acknowledged",
        happens: "draining takes all of its time, and messages stay in doubt",
        told: "acknowledged; 1 in doubt",
        run: || {
            let mut pair = pair();
            pair.send(A, "chat", b"text");
            pair.run();
            let now = pair.now;
            let session = pair.session(A);
            session.close(now);
            while session.poll_action().is_some() {}
            let mut out = BytesMut::new();
            let ids: Vec<SubstreamId> = session
                .owed()
                .iter()
                .filter_map(|it| match it.waiting {
                    glueberry_proto::Waiting::Acknowledged(id) => Some(id),
                    _ => None,
                })
                .collect();
            for id in ids {
                session.poll_write(id, &mut out, 1000);
            }
            let owed = oldest(session);
            // Draining has its time, and the answer to what is said last has it again.
            for seconds in [60, 70] {
                session.handle_timeout(now + Duration::from_secs(seconds));
            }
            let closed =
                std::iter::from_fn(|| session.poll_event()).find_map(|event| match event {
                    Event::Closed(closed) => Some(closed),
                    _ => None,
                });
            let kind = owed.split(" as ").nth(1).and_then(|it| it.split(' ').next());
            format!("{}; {} in doubt", kind.unwrap_or(&owed), closed.unwrap().in_doubt)
        },
    },
    Row {
        misuse: "an acknowledgement is reported of what was not ended",
        happens: "nothing",
        told: "nothing",
        run: || {
            let mut session = outbound();
            let id = opened(&mut session);
            session.handle_acknowledged(NOW, id);
            "nothing".into()
        },
    },
    Row {
        misuse: "messages are not taken",
        happens: "their stream is paused, and its sender's queue fills up",
        told: "the sender: queue is full",
        run: || {
            let mut pair = pair();
            pair.window = 64 * 1024;
            for _ in 0..1000 {
                let now = pair.now;
                match pair.session(A).send(now, &chat(), vec![7; 100_000].into()) {
                    Ok(()) => {}
                    Err(error) => {
                        pair.run();
                        let now = pair.now;
                        if pair.session(A).send(now, &chat(), "more".into()).is_err() {
                            return format!("the sender: {error}");
                        }
                    }
                }
            }
            "nothing".into()
        },
    },
    Row {
        misuse: "a message is sent before Established",
        happens: "it is not queued",
        told: "session is not established",
        run: || outbound().send(NOW, &chat(), "text".into()).unwrap_err().to_string(),
    },
    Row {
        misuse: "a message is sent on a stream that was not prepared",
        happens: "it is not queued",
        told: "stream was not prepared",
        run: || {
            let other = glueberry_proto::StreamName::new("other").unwrap();
            let mut pair = pair();
            let now = pair.now;
            pair.session(A).send(now, &other, "text".into()).unwrap_err().to_string()
        },
    },
    Row {
        misuse: "a message is too large",
        happens: "it is not queued",
        told: "message of 10485761 bytes exceeds the limit of 10485760",
        run: || {
            let mut pair = pair();
            let now = pair.now;
            let message = vec![0; 10 * 1024 * 1024 + 1];
            pair.session(A).send(now, &chat(), message.into()).unwrap_err().to_string()
        },
    },
    Row {
        misuse: "the handshake is finalized, and was not begun",
        happens: "the session is as it was",
        told: "session is not connected",
        run: || outbound().finalize_handshake(NOW).unwrap_err().to_string(),
    },
    Row {
        misuse: "commands after the end",
        happens: "nothing",
        told: "session is closed",
        run: || {
            let mut pair = pair();
            let now = pair.now;
            let session = pair.session(A);
            session.handle_connection_lost(now, glueberry_proto::ConnectionLost::Reset);
            session.send(now, &chat(), "text".into()).unwrap_err().to_string()
        },
    },
    Row {
        misuse: "inputs after the end",
        happens: "nothing, and no timer is armed (C2)",
        told: "nothing",
        run: || {
            let mut session = outbound();
            session.handle_connection_lost(NOW, glueberry_proto::ConnectionLost::Reset);
            while session.poll_action().is_some() {}
            _ = session.handle_accepted(NOW, None);
            session.handle_timeout(after(100));
            assert_eq!(session.poll_timeout(), None);
            oldest(&session)
        },
    },
    Row {
        misuse: "`CloseConnection` is ignored",
        happens: "the session is over; the peer's ends when its transport notices",
        told: "nothing",
        run: || {
            let mut session = outbound();
            session.close(NOW);
            let closes = std::iter::from_fn(|| session.poll_action())
                .filter(|action| matches!(action, Action::CloseConnection { .. }));
            assert_eq!(closes.count(), 1);
            assert!(session.is_closed());
            "nothing".into()
        },
    },
];
