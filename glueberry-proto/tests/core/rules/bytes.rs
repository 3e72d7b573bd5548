//! C9: bytes handed out for a substream are committed.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use glueberry_proto::{Action, Event, Naming, Profile, ProtocolId, SubstreamEnd, SubstreamId};
use proptest::prelude::*;

use crate::support::{Outcome, Raw, bodies, check, config, holds, name};

/// One thing that an application or a transport does.
#[derive(Clone, Debug)]
enum Step {
    Send(usize, usize),
    /// Takes bytes of one of the substreams, at most about so many.
    Write(usize, usize),
    /// Agrees to what is being opened.
    Agree,
    /// The peer refuses to read any more on one of the substreams.
    Stop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_usize, 0..3_000_usize).prop_map(|(at, size)| Step::Send(at, size)),
        6 => (any::<usize>(), prop_oneof![0..100_usize, 0..10_000_usize])
            .prop_map(|(at, budget)| Step::Write(at, budget)),
        3 => Just(Step::Agree),
        1 => any::<usize>().prop_map(Step::Stop),
    ]
}

const STREAMS: [&str; 2] = ["a", "b"];

/// What went out on a substream, and whether it has been stopped.
struct Written {
    stream: usize,
    bytes: BytesMut,
    is_stopped: bool,
}

struct Run {
    raw: Raw,
    written: BTreeMap<SubstreamId, Written>,
    accepted: [Vec<Bytes>; 2],
}

impl Run {
    fn step(&mut self, step: &Step) {
        let ids: Vec<SubstreamId> = self.written.keys().copied().collect();
        match step {
            Step::Send(at, size) => {
                let count = u32::try_from(self.accepted[*at].len()).unwrap();
                let mut message = count.to_be_bytes().to_vec();
                message.resize(4 + size, 9);
                let message = Bytes::from(message);
                let stream = name(STREAMS[*at]);
                if self.raw.session.send(self.raw.now, &stream, message.clone()).is_ok() {
                    self.accepted[*at].push(message);
                }
            }
            Step::Write(at, budget) if !ids.is_empty() => self.write(ids[at % ids.len()], *budget),
            Step::Stop(at) if !ids.is_empty() => {
                let id = ids[at % ids.len()];
                let now = self.raw.now;
                self.raw.session.handle_substream_end(now, id, SubstreamEnd::Stopped, b"");
                self.written.get_mut(&id).unwrap().is_stopped = true;
            }
            Step::Agree => self.agree(),
            Step::Write(..) | Step::Stop(_) => {}
        }
        self.raw.settle();
    }

    fn write(&mut self, id: SubstreamId, budget: usize) {
        let written = self.written.get_mut(&id).unwrap();
        let before = written.bytes.len();
        let count = self.raw.session.poll_write(id, &mut written.bytes, budget);
        assert_eq!(written.bytes.len(), before + count);
        assert!(!written.is_stopped || count == 0, "written to a substream that nobody reads");
    }

    fn agree(&mut self) {
        let position = |action: &Action| matches!(action, Action::OpenSubstream { .. });
        let Some(at) = self.raw.actions.iter().position(position) else {
            return;
        };
        let Action::OpenSubstream { substream, protocols } = self.raw.actions.remove(at) else {
            unreachable!("it was found");
        };
        let ProtocolId::Stream { name: stream, .. } = &protocols[0] else {
            panic!("{protocols:?}");
        };
        let stream = STREAMS.iter().position(|at| name(at) == *stream).unwrap();
        let now = self.raw.now;
        self.raw.session.handle_opened(now, substream, Some(protocols[0].clone()));
        let written = Written { stream, bytes: BytesMut::new(), is_stopped: false };
        self.written.insert(substream, written);
    }
}

/// C9: whatever is asked for when, what a substream hands out is whole frames of the messages that
/// were accepted, each once and in order; after it broke it hands out nothing, and exactly what it
/// had handed out is in doubt.
fn c9() -> Outcome {
    let profile = prop_oneof![Just(Profile::V1), Just(Profile::V1Go)];
    let runs = (profile, prop::collection::vec(step(), 0..80));
    check(runs, |(profile, steps)| {
        let mut config = config(&STREAMS);
        config.profiles = vec![profile];
        let raw = Raw::established(Naming::Negotiated, config, &STREAMS);
        let mut run = Run { raw, written: BTreeMap::new(), accepted: [Vec::new(), Vec::new()] };
        for step in &steps {
            run.step(step);
        }
        // What is left goes out.
        for _ in 0..4 {
            run.raw.wait(std::time::Duration::from_secs(1));
            run.agree();
            run.agree();
            let ids: Vec<SubstreamId> = run.written.keys().copied().collect();
            ids.iter().for_each(|id| run.write(*id, usize::MAX));
        }
        let mut sent = [Vec::new(), Vec::new()];
        let mut lost = 0;
        for written in run.written.values() {
            let records = bodies(profile, &written.bytes);
            let messages: Vec<Bytes> = records
                .iter()
                .map(|record| Bytes::from(run.raw.cipher.decrypt(record, b"").unwrap()))
                .collect();
            lost += if written.is_stopped { messages.len() } else { 0 };
            sent[written.stream].extend(messages);
        }
        prop_assert_eq!(sent, run.accepted);
        let in_doubt: u64 = run.raw.events().iter().map(in_doubt).sum();
        prop_assert_eq!(in_doubt, u64::try_from(lost).unwrap());
        Ok(())
    })
}

const fn in_doubt(event: &Event) -> u64 {
    match event {
        Event::StreamInterrupted { in_doubt, .. } => *in_doubt,
        _ => 0,
    }
}

#[test]
fn c9_bytes_handed_out_are_committed() {
    holds(c9);
}
