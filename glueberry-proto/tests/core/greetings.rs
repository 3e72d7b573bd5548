//! Applications that leave their handshake to the greeting, over real sessions.

use glueberry_proto::greeting::{Greeting, GreetingConfig, Output, RejectReason};
use glueberry_proto::{
    CloseReason, Config, ConnectionState, Event, HandshakeError, Naming, Profile, ProtocolVersion,
    SendError, Session,
};
use proptest::prelude::*;

use crate::support::{A, B, BOTH, Checked, Side, World, check, config, key, names, new_world};

/// What stands between a session and its application.
struct Application {
    greeting: Greeting,
    /// What the greeting wants done next, while the session is not Connected.
    kept: Option<Output>,
    /// `Done` or `Reject`, once it is reached.
    end: Option<Output>,
}

impl Application {
    fn new(world: &World, side: Side, version: Option<ProtocolVersion>) -> Self {
        let mut config = GreetingConfig::default();
        config.version = version;
        let greeting = Greeting::new(world.now, key(side), key(1 - side), config).unwrap();
        Self { greeting, kept: None, end: None }
    }

    /// Hears what has come for the application of a side, and does the next thing that is wanted.
    fn turn(&mut self, world: &mut World, side: Side) -> bool {
        let heard: Vec<_> = world.app.sides[side].handshake.drain(..).collect();
        for message in &heard {
            self.greeting.handle_message(world.now, message);
        }
        let Some(output) = self.kept.take().or_else(|| self.greeting.poll_output()) else {
            return !heard.is_empty();
        };
        if !self.carry_out(world, side, &output) {
            self.kept = Some(output);
        }
        true
    }

    /// Returns whether there was a session that could.
    fn carry_out(&mut self, world: &mut World, side: Side, output: &Output) -> bool {
        match output.clone() {
            Output::Send(message) => {
                match world.command(side, |session, now| session.send_handshake(now, message)) {
                    None | Some(Err(SendError::NotEstablished)) => return false,
                    sent => assert_eq!(sent, Some(Ok(()))),
                }
            }
            Output::Prepare(key) => {
                let names = names(&["chat"]);
                let prepare =
                    |session: &mut Session, now| session.prepare_streams(now, key, &names);
                match world.command(side, prepare) {
                    None | Some(Err(HandshakeError::NotConnected)) => return false,
                    prepared => assert_eq!(prepared, Some(Ok(()))),
                }
            }
            Output::Finalize => {
                match world.command(side, |session, now| session.finalize_handshake(now)) {
                    None | Some(Err(HandshakeError::NotConnected)) => return false,
                    finalized => assert_eq!(finalized, Some(Ok(()))),
                }
            }
            Output::Done { .. } => {
                self.end = Some(output.clone());
                // At once: that it may be sent is what Done says.
                world.send(side, "chat", b"0");
            }
            Output::Reject(reason) => {
                self.end = Some(output.clone());
                let text = reason.to_string();
                world.command(side, |session, now| session.reject_handshake(now, &text));
            }
            other => panic!("{other:?}"),
        }
        true
    }
}

fn both(world: &World, versions: [Option<ProtocolVersion>; 2]) -> [Application; 2] {
    [A, B].map(|side| Application::new(world, side, versions[side]))
}

/// Lets transport and applications do what they can, until nothing moves.
fn converse(world: &mut World, applications: &mut [Application; 2]) {
    for _ in 0..1_000 {
        world.run();
        let moved = [A, B].map(|side| applications[side].turn(world, side));
        if moved == [false, false] {
            return;
        }
    }
    panic!("they never stop talking");
}

fn speaking(profile: Profile) -> Config {
    let mut config = config(&["chat"]);
    config.profiles = vec![profile];
    config
}

fn check_established(world: &mut World, profile: Profile) -> Checked {
    for side in [A, B] {
        let node = &world.hosts[side].node;
        prop_assert_eq!(node.state(key(1 - side)), ConnectionState::Established);
        prop_assert_eq!(world.session(side).profile(), Some(profile));
        prop_assert_eq!(world.app.received(side, "chat"), ["0"]);
        // Each was prepared before the other sent: no stream was refused, broken or missed.
        let is_loss = |(_, event): &&(_, Event)| {
            matches!(
                event,
                Event::RecordRejected { .. }
                    | Event::StreamInterrupted { .. }
                    | Event::StreamRefused { .. }
                    | Event::StreamNotPrepared { .. }
            )
        };
        prop_assert_eq!(world.app.sides[side].session_events.iter().find(is_loss), None);
    }
    Ok(())
}

#[test]
fn both_reach_established_on_both_profiles() {
    for naming in BOTH {
        for profile in [Profile::V1, Profile::V1Go] {
            let mut world = new_world(naming, [speaking(profile), speaking(profile)]);
            world.connect(A);
            world.run();
            let versions = [ProtocolVersion::CURRENT, ProtocolVersion::new(1, 99, 0)];
            let mut applications = both(&world, versions.map(Some));
            converse(&mut world, &mut applications);
            check_established(&mut world, profile).unwrap();
            for side in [A, B] {
                let done = Output::Done { version: Some(versions[1 - side]) };
                assert_eq!(applications[side].end, Some(done));
            }
        }
    }
}

#[test]
fn both_dial_at_once_and_reach_established() {
    for naming in BOTH {
        let mut world = new_world(naming, [config(&["chat"]), config(&["chat"])]);
        world.connect(A);
        world.connect(B);
        world.run();
        let mut applications = both(&world, [None; 2]);
        converse(&mut world, &mut applications);
        check_established(&mut world, Profile::V2).unwrap();
    }
}

/// However the transport cuts and delays, and whenever the applications get their turn.
#[test]
fn both_reach_established_in_any_order_of_things() {
    let runs = (
        prop::collection::vec(0..200_usize, 0..300),
        prop::collection::vec(1..40_usize, 1..5),
        (0..3_usize, prop::bool::ANY, prop::bool::ANY),
    );
    let outcome = check(runs, |(steps, cuts, (dialler, is_named, is_go))| {
        let naming = if is_named { Naming::Negotiated } else { Naming::Preamble };
        let profile = if is_go { Profile::V1Go } else { Profile::V1 };
        let mut world = new_world(naming, [speaking(profile), speaking(profile)]);
        world.cuts = cuts;
        // Two is both.
        for side in [A, B].into_iter().filter(|side| dialler == 2 || dialler == *side) {
            world.connect(side);
        }
        let mut applications: [Option<Application>; 2] = [None, None];
        for step in steps {
            match step {
                0..40 => {
                    let side = step % 2;
                    // Connected: the application begins now or later.
                    if world.current_session(side).is_some() {
                        applications[side]
                            .get_or_insert_with(|| Application::new(&world, side, None))
                            .turn(&mut world, side);
                    }
                }
                choice => {
                    world.step_one(choice);
                }
            }
        }
        world.run();
        let mut applications = [A, B].map(|side| {
            applications[side].take().unwrap_or_else(|| Application::new(&world, side, None))
        });
        converse(&mut world, &mut applications);
        check_established(&mut world, profile)
    });
    assert_eq!(outcome, Ok(()));
}

#[test]
fn versions_that_do_not_go_together_end_in_cooldown_on_both_sides() {
    for naming in BOTH {
        let mut world = new_world(naming, [config(&["chat"]), config(&["chat"])]);
        world.connect(A);
        world.run();
        let versions = [ProtocolVersion::CURRENT, ProtocolVersion::new(2, 0, 0)];
        let mut applications = both(&world, versions.map(Some));
        converse(&mut world, &mut applications);
        for side in [A, B] {
            let (ours, theirs) = (versions[side], versions[1 - side]);
            let reason = RejectReason::IncompatibleVersion { ours, theirs };
            assert_eq!(applications[side].end, Some(Output::Reject(reason)));
            assert_eq!(world.app.closed(side).reason, CloseReason::Rejected(reason.to_string()));
            assert_eq!(world.hosts[side].node.state(key(1 - side)), ConnectionState::Cooldown);
        }
    }
}

/// An application as the original's examples are, with what they do wrong: it answers every Hello
/// with another, and is Established before it has heard that we are.
#[test]
fn a_go_application_reaches_established() {
    for dialler in [A, B] {
        let mut world = new_world(Naming::Negotiated, [config(&["chat"]), speaking(Profile::V1Go)]);
        world.connect(dialler);
        world.run();
        let mut ours = Application::new(&world, A, None);
        if dialler == B {
            world.send_handshake(B, b"\x01alice");
            world.send_handshake(B, &[&[2], &key(B).as_bytes()[..]].concat());
        }
        let mut heard_by_go = Vec::new();
        for _ in 0..100 {
            world.run();
            ours.turn(&mut world, A);
            for message in std::mem::take(&mut world.app.sides[B].handshake) {
                match message[0] {
                    1 => {
                        world.send_handshake(B, b"\x01alice");
                        world.send_handshake(B, &[&[2], &key(B).as_bytes()[..]].concat());
                    }
                    3 => {
                        world.send_handshake(B, &[3]);
                        world.prepare(B, &["chat"]);
                        world.finalize(B);
                        world.send(B, "chat", b"0");
                        let again = world
                            .command(B, |session, now| session.send_handshake(now, vec![3].into()));
                        assert_eq!(again, Some(Err(SendError::HandshakeOver)));
                    }
                    _ => {}
                }
                heard_by_go.push(message);
            }
        }
        check_established(&mut world, Profile::V1Go).unwrap();
        assert_eq!(ours.end, Some(Output::Done { version: None }));
        let kinds: Vec<u8> = heard_by_go.iter().map(|message| message[0]).collect();
        assert_eq!(kinds, [1, 2, 3]);
    }
}
