//! Applications like the original's examples, with their faults, on either side.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// An application of the original: its state of a peer, and its steps so far.
struct GoApplication {
    habits: Habits,
    got_hello: bool,
    name: Vec<u8>,
    got_key: Option<Vec<u8>>,
    /// The dialler waits for the key in a loop of its own.
    polls: bool,
    /// The keys that it has completed handshakes with.
    completed: Vec<Vec<u8>>,
}

/// The differences between the examples.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// The bytes behind its Hello, and whether it reads those of others.
    name: Option<&'static str>,
    /// Does not complete without Hello.
    wants_hello: bool,
    /// It has dialled, so it begins.
    dials: bool,
    /// Its dialler's loop is over before anything can have arrived.
    is_hasty: bool,
}

impl GoApplication {
    fn new(habits: Habits) -> Self {
        Self {
            habits,
            got_hello: false,
            name: Vec::new(),
            got_key: None,
            polls: habits.dials && !habits.is_hasty,
            completed: Vec::new(),
        }
    }

    fn start(&self) -> Vec<Vec<u8>> {
        if self.habits.dials { vec![self.hello(), pub_key_of(PEER)] } else { Vec::new() }
    }

    fn hello(&self) -> Vec<u8> {
        [&[1], self.habits.name.unwrap_or_default().as_bytes()].concat()
    }

    fn receive(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        match message {
            [1, name @ ..] => {
                self.got_hello = true;
                if !name.is_empty() && self.habits.name.is_some() {
                    self.name = name.to_vec();
                }
                // Each and every one, for as long as there are more.
                vec![self.hello(), pub_key_of(PEER)]
            }
            [2, key @ ..] if !key.is_empty() => {
                self.got_key = Some(key.to_vec());
                Vec::new()
            }
            [3, ..] if self.got_hello || !self.habits.wants_hello => self.complete(),
            _ => Vec::new(),
        }
    }

    /// One round of the dialler's loop.
    fn poll(&mut self) -> Vec<Vec<u8>> {
        let sent = if self.polls { self.complete() } else { Vec::new() };
        self.polls &= sent.is_empty();
        sent
    }

    /// Sends Complete, opens the streams at once, and forgets the peer.
    fn complete(&mut self) -> Vec<Vec<u8>> {
        let Some(key) = self.got_key.take() else {
            return Vec::new();
        };
        self.got_hello = false;
        self.polls = false;
        self.completed.push(key);
        vec![vec![3]]
    }
}

/// A greeting and a Go application, connected by two queues.
struct Meeting {
    greeting: Greeting,
    go: GoApplication,
    to_us: VecDeque<Vec<u8>>,
    to_go: VecDeque<Bytes>,
    did: Vec<Output>,
}

impl Meeting {
    fn new(version: Option<&str>, habits: Habits) -> Self {
        let go = GoApplication::new(habits);
        Self {
            greeting: greeting(version),
            to_us: go.start().into(),
            go,
            to_go: VecDeque::new(),
            did: Vec::new(),
        }
    }

    /// Takes one of the steps that are possible next.
    fn step(&mut self, choice: usize) -> bool {
        match choice % 4 {
            0 => {
                let output = self.greeting.poll_output();
                if let Some(Output::Send(message)) = &output {
                    self.to_go.push_back(message.clone());
                }
                let moved = output.is_some();
                self.did.extend(output);
                moved
            }
            1 => {
                let Some(message) = self.to_us.pop_front() else { return false };
                self.greeting.handle_message(Instant::ZERO, &message);
                true
            }
            2 => {
                let Some(message) = self.to_go.pop_front() else { return false };
                self.to_us.extend(self.go.receive(&message));
                true
            }
            _ => {
                let sent = self.go.poll();
                let moved = !sent.is_empty();
                self.to_us.extend(sent);
                moved
            }
        }
    }

    /// Takes steps until none is left; no time passes.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..1_000 {
            if !(0..4).map(|choice| self.step(choice)).fold(false, |moved, step| moved | step) {
                return Ok(());
            }
        }
        Err(TestCaseError::fail("they never stop talking"))
    }
}

/// The outputs of a greeting with every Go application, whatever it receives twice.
fn all(hello: &[u8]) -> Vec<Output> {
    vec![
        sent(hello),
        sent(&pub_key_of(ME)),
        Output::Prepare(key(PEER)),
        sent(&[3]),
        Output::Finalize,
        Output::Done { version: None },
    ]
}

fn habits() -> impl Strategy<Value = Habits> {
    let name = prop_oneof![Just(None), Just(Some("")), Just(Some("alice")), Just(Some("2.0.0"))];
    let rest = any::<(bool, bool, bool)>();
    (name, rest).prop_map(|(name, (wants_hello, dials, is_hasty))| Habits {
        name,
        wants_hello,
        dials,
        is_hasty,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    /// In any order of steps, and with either side as the dialler, both complete. We send everything
    /// once, and Hellos do not go back and forth for ever.
    #[test]
    fn both_complete(
        habits in habits(),
        tells in any::<bool>(),
        steps in prop::collection::vec(0..4_usize, 0..60),
    ) {
        let version = tells.then_some("1.2.9");
        let mut meeting = Meeting::new(version, habits);
        for choice in steps {
            meeting.step(choice);
        }
        meeting.settle()?;
        let hello: &[u8] = if tells { b"\x01\x001.2.9" } else { &[1] };
        prop_assert_eq!(meeting.did, all(hello));
        prop_assert_eq!(&meeting.go.completed, &[key(ME).as_bytes().to_vec()]);
        // A version behind Hello is read as a name by those that have names.
        let sees = if tells && habits.name.is_some() { &hello[1..] } else { &[] };
        prop_assert_eq!(meeting.go.name, sees);
    }
}

/// A Go application that answers: Hello, key and Complete of its own, each to one of ours.
#[test]
fn one_that_answers() {
    let habits = Habits { name: None, wants_hello: true, dials: false, is_hasty: false };
    let mut go = GoApplication::new(habits);
    let mut greeting = greeting(None);
    assert_eq!(greeting.drain(), [sent(&[1])]);
    let answers = go.receive(&[1]);
    assert_eq!(answers, [vec![1], pub_key_of(PEER)]);
    assert_eq!(greeting.receives(&answers[0]), [sent(&pub_key_of(ME))]);
    assert_eq!(greeting.receives(&answers[1]), [Output::Prepare(key(PEER)), sent(&[3])]);
    assert_eq!(go.receive(&pub_key_of(ME)), Vec::<Vec<u8>>::new());
    assert_eq!(go.receive(&[3]), [vec![3]]);
    assert_eq!(greeting.receives(&[3]), [Output::Finalize, Output::Done { version: None }]);
}

/// A Go application that has dialled and gives up before our key can have arrived: our Complete
/// makes it continue all the same.
#[test]
fn one_that_begins_and_is_hasty() {
    let habits = Habits { name: Some("alice"), wants_hello: true, dials: true, is_hasty: true };
    let mut meeting = Meeting::new(None, habits);
    meeting.settle().unwrap();
    assert_eq!(meeting.did, all(&[1]));
    assert_eq!(meeting.go.completed, [key(ME).as_bytes()]);
}

/// Two applications of the original would send Hello to each other for ever. We answer none twice.
#[test]
fn one_that_never_stops_sending_hello() {
    let mut greeting = greeting(None);
    greeting.drain();
    let mut sent_by_us = Vec::new();
    for _ in 0..10_000 {
        sent_by_us.extend(greeting.receives(&[1]));
        sent_by_us.extend(greeting.receives(&pub_key_of(PEER)));
    }
    assert_eq!(sent_by_us, all(&[1])[1..4]);
    assert_eq!(greeting.receives(&[3]), all(&[1])[4..]);
    assert_eq!(greeting.receives(&[1]), []);
}

/// Its dialler's loop and its reader both send Complete.
#[test]
fn one_that_completes_twice() {
    let mut greeting = greeting(None);
    greeting.drain();
    greeting.receives(b"\x01alice");
    greeting.receives(&pub_key_of(PEER));
    assert_eq!(greeting.receives(&[3]), all(&[1])[4..]);
    assert_eq!(greeting.receives(&[3]), []);
    assert_eq!(greeting.poll_timeout(), None);
}

/// Its answers were lost, because it answered before it had kept the substream they belong to.
/// It repeats them only in answer to another Hello.
#[test]
fn one_whose_answers_were_lost() {
    let habits = Habits { name: None, wants_hello: true, dials: false, is_hasty: false };
    let mut meeting = Meeting::new(None, habits);
    meeting.step(0);
    meeting.step(2);
    meeting.to_us.clear();
    meeting.settle().unwrap();
    assert_eq!(meeting.did, [sent(&[1])]);
    meeting.greeting.handle_timeout(seconds(10));
    meeting.settle().unwrap();
    assert_eq!(meeting.did[1..], all(&[1]));
}
