//! Two greetings connected by two ordered wires, in any interleaving, with repeated messages.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// The messages of one side, and how far the other has read. Going back repeats the messages from
/// there on in their order, as a session does that moves to another substream.
#[derive(Debug, Default)]
struct Wire {
    messages: Vec<Bytes>,
    read: usize,
    /// The number of the message that never arrives, from zero.
    lost: Option<usize>,
    sent: usize,
}

impl Wire {
    fn send(&mut self, message: &Bytes) {
        if self.lost != Some(self.sent) {
            self.messages.push(message.clone());
        }
        self.sent += 1;
    }
}

/// One side, and what its application did.
struct Side {
    greeting: Greeting,
    did: Vec<Output>,
}

struct Pair {
    now: Instant,
    sides: [Side; 2],
    /// Towards the side of the same number.
    wires: [Wire; 2],
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A side's application carries out the next output.
    Act(usize),
    /// The next message reaches a side.
    Deliver(usize),
    /// Messages that a side has read arrive again, from this many ago.
    GoBack(usize, usize),
    /// This many seconds pass.
    Wait(u64),
}

#[derive(Clone, Debug)]
struct Setup {
    versions: [Option<ProtocolVersion>; 2],
    /// Whether the transport reports another key to a side than the peer sends.
    is_misled: [bool; 2],
}

impl Pair {
    fn new(setup: &Setup) -> Self {
        let side = |side: usize| {
            let (own, peer) = ([ME, PEER][side], [PEER, ME][side]);
            let peer = if setup.is_misled[side] { STRANGER } else { peer };
            let config = GreetingConfig {
                version: setup.versions[side],
                retry_after: Duration::from_secs(1),
                // More than the random part of a run can use up.
                max_retries: 1_000,
            };
            let greeting = Greeting::new(Instant::ZERO, key(own), key(peer), config).unwrap();
            Side { greeting, did: Vec::new() }
        };
        Self { now: Instant::ZERO, sides: [side(0), side(1)], wires: <[Wire; 2]>::default() }
    }

    fn apply(&mut self, op: Op) -> bool {
        match op {
            Op::Act(side) => {
                let output = self.sides[side].greeting.poll_output();
                if let Some(Output::Send(message)) = &output {
                    self.wires[1 - side].send(message);
                }
                let moved = output.is_some();
                self.sides[side].did.extend(output);
                moved
            }
            Op::Deliver(side) => {
                let wire = &mut self.wires[side];
                let Some(message) = wire.messages.get(wire.read) else {
                    return false;
                };
                wire.read += 1;
                self.sides[side].greeting.handle_message(self.now, message);
                true
            }
            Op::GoBack(side, by) => {
                let wire = &mut self.wires[side];
                wire.read = wire.read.saturating_sub(by);
                true
            }
            Op::Wait(seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                for side in &mut self.sides {
                    side.greeting.handle_timeout(self.now);
                }
                true
            }
        }
    }

    /// Takes all steps that need no time. Returns whether they came to an end.
    fn settle(&mut self) -> bool {
        (0..10_000).any(|_| {
            let ops = [Op::Act(0), Op::Act(1), Op::Deliver(0), Op::Deliver(1)];
            let moved: Vec<bool> = ops.into_iter().map(|op| self.apply(op)).collect();
            !moved.contains(&true)
        })
    }

    /// Lets time pass until neither side has anything left to wait for.
    fn time_out(&mut self) -> bool {
        (0..10_000).any(|_| {
            let timeouts = self.sides.each_ref().map(|side| side.greeting.poll_timeout());
            let Some(next) = timeouts.into_iter().flatten().min() else {
                return true;
            };
            self.now = next;
            self.apply(Op::Wait(0));
            !self.settle()
        })
    }

    fn ends(&self) -> [Option<&Output>; 2] {
        self.sides.each_ref().map(|side| side.did.last())
    }
}

impl Side {
    /// Checks that this side's steps are those of every greeting, in that order.
    fn check_order(&self) -> Result<(), TestCaseError> {
        let at = |wanted: fn(&Output) -> bool| self.did.iter().position(wanted);
        let count = |wanted: fn(&Output) -> bool| self.did.iter().filter(|o| wanted(o)).count();
        let is_complete = |output: &Output| *output == sent(&[3]);
        let (prepare, complete) =
            (at(|output| matches!(output, Output::Prepare(_))), at(is_complete));
        prop_assert!(complete.is_none_or(|complete| prepare.is_some_and(|at| at < complete)));
        prop_assert!(count(|output| matches!(output, Output::Prepare(_))) <= 1);
        let finalize = at(|output| matches!(output, Output::Finalize));
        prop_assert!(finalize.is_none_or(|at| complete.is_some_and(|complete| complete < at)));
        let is_end = |output: &Output| matches!(output, Output::Done { .. } | Output::Reject(_));
        prop_assert!(at(is_end).is_none_or(|at| at == self.did.len() - 1), "{:?}", self.did);
        Ok(())
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..2_usize).prop_map(Op::Act),
        4 => (0..2_usize).prop_map(Op::Deliver),
        1 => (0..2_usize, 1..6_usize).prop_map(|(side, by)| Op::GoBack(side, by)),
        1 => (0..3_u64).prop_map(Op::Wait),
    ];
    prop::collection::vec(op, 0..80)
}

fn versions() -> impl Strategy<Value = [Option<ProtocolVersion>; 2]> {
    let version = prop_oneof![
        Just(None),
        (1..3_u8, 0..3_u8).prop_map(|(major, minor)| Some(ProtocolVersion::new(major, minor, 9))),
    ];
    [version.clone(), version]
}

fn setups() -> impl Strategy<Value = Setup> {
    let is_misled = [prop::bool::weighted(0.2), prop::bool::weighted(0.2)];
    (versions(), is_misled).prop_map(|(versions, is_misled)| Setup { versions, is_misled })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Two compatible sides are Done when everything has arrived. No time needs to pass, and each has
    /// sent everything once, except for requested repetitions.
    #[test]
    fn both_are_done(versions in versions(), ops in ops()) {
        let theirs = versions[0].zip(versions[1]);
        prop_assume!(theirs.is_none_or(|(one, other)| one.major() == other.major()));
        let mut pair = Pair::new(&Setup { versions, is_misled: [false; 2] });
        for op in ops {
            pair.apply(op);
        }
        prop_assert!(pair.settle());
        let told = theirs.map(|(one, other)| [other, one]);
        let done = [0, 1].map(|side| Output::Done { version: told.map(|told| told[side]) });
        prop_assert_eq!(pair.ends(), done.each_ref().map(Some));
        for (side, who) in pair.sides.iter().zip([ME, PEER]) {
            side.check_order()?;
            let hellos = side.did.iter().filter(|output| {
                matches!(output, Output::Send(message) if message[0] == 1)
            });
            let retries = usize::try_from(side.greeting.retries).unwrap();
            prop_assert!(hellos.count() <= 1 + retries);
            prop_assert!(side.did.contains(&sent(&pub_key_of(who))));
        }
    }

    /// Whatever happens, both end alike, for exactly one of the possible reasons.
    #[test]
    fn both_end_alike(setup in setups(), ops in ops()) {
        let mut pair = Pair::new(&setup);
        for op in ops {
            pair.apply(op);
        }
        prop_assert!(pair.settle());
        prop_assert!(pair.time_out());
        for side in &pair.sides {
            side.check_order()?;
        }
        let quarrel = setup.versions[0].zip(setup.versions[1])
            .filter(|(one, other)| one.major() != other.major());
        let is_misled = setup.is_misled.contains(&true);
        for (side, end) in pair.ends().into_iter().enumerate() {
            match end {
                Some(Output::Done { .. }) => prop_assert!(quarrel.is_none() && !is_misled),
                Some(Output::Reject(RejectReason::IncompatibleVersion { ours, theirs })) => {
                    let (one, other) = quarrel.expect("they don't get along");
                    prop_assert_eq!(BTreeSet::from([ours, theirs]), BTreeSet::from([&one, &other]));
                }
                Some(Output::Reject(RejectReason::WrongKey { given, peer })) => {
                    prop_assert!(setup.is_misled[side]);
                    prop_assert_eq!((*given, *peer), (key([PEER, ME][side]), key(STRANGER)));
                }
                // The other one has rejected, and sends nothing any more.
                Some(Output::Reject(RejectReason::TimedOut { .. })) => {
                    prop_assert!(setup.is_misled[1 - side] && quarrel.is_none());
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        let is_done = pair.ends().map(|end| matches!(end, Some(Output::Done { .. })));
        prop_assert_eq!(is_done[0], is_done[1]);
    }
}

/// A lost message arrives when it is repeated. The exception is a Complete whose sender is Done: the
/// session repeats it, because it knows what has arrived.
#[test]
fn lost_messages_are_repeated() {
    let setup = Setup { versions: [None; 2], is_misled: [false; 2] };
    for lost in 0..3 {
        let mut pair = Pair::new(&setup);
        pair.wires[0].lost = Some(lost);
        assert!(pair.settle());
        assert!(!pair.sides[0].greeting.is_over(), "message {lost} was not missed");
        assert!(pair.time_out());
        let is_done = pair.ends().map(|end| matches!(end, Some(Output::Done { .. })));
        assert_eq!(is_done, [lost < 2, true], "message {lost} was lost");
    }
}
