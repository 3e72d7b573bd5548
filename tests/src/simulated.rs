//! The scenarios that the simulator plays too, with a program in the application's place: the same
//! core, in virtual time, once for each of some seeds.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::handler::{Context, Handler, Notice};
use glueberry_proto::{ConnectionState, PublicKey, StreamName};
use glueberry_sim::{Mix, Peer, Simulation};

use crate::scenarios::Verdict;

/// Plays the scenario of this name.
///
/// # Errors
///
/// The first run that went wrong, with the seed that repeats it.
pub fn play(name: &str) -> Result<Verdict, String> {
    let mut play = Play { nodes: 2, streams: vec!["chat"], sizes: vec![8], ..Play::default() };
    match name {
        "handshake_and_first_message" => play.sizes = vec![9],
        "both_dial" => play.all_dial = true,
        "both_send_first" => play.sizes = vec![8; 20],
        "many_peers_at_once" => play.nodes = 7,
        "all_sizes" => {
            // The simulator itself allows no larger ones.
            play.sizes = vec![8, 127, 128, 1_000, 16_383, 16_384];
        }
        "many_streams" => play.streams = vec!["a", "b", "c", "d", "e", "f", "g", "h"],
        "disconnect_and_connect_again" => play.parts = true,
        "killed_and_returned"
        | "returns_and_dials"
        | "reconnects_by_itself"
        | "stalled_peer_is_noticed"
        | "datagrams_are_lost" => {
            (play.all_dial, play.is_rough) = (name == "returns_and_dials", true);
        }
        "nobody_is_there"
        | "somebody_else_answers"
        | "no_common_profile"
        | "v1_go_profile"
        | "wrong_key"
        | "rejected"
        | "handshake_timeout"
        | "banned_in_each_state"
        | "banned_stranger"
        | "ban_expires"
        | "oversize_from_the_peer"
        | "slow_reader"
        | "end_is_noticed"
        | "shutdown_drain" => return Ok(Verdict::NotApplicable(SCRIPTED)),
        _ => return Ok(Verdict::NotApplicable(NO_CALL)),
    }
    play.run()
}

const SCRIPTED: &str =
    "no call of a simulated program; glueberry-sim's own scripts and model do it in its runs";
const NO_CALL: &str = "about calls of the async node, which a simulated program does not have";

/// What is played.
#[derive(Clone, Debug, Default)]
struct Play {
    nodes: usize,
    streams: Vec<&'static str>,
    /// Of the messages that each says to each on each stream.
    sizes: Vec<usize>,
    all_dial: bool,
    /// The first node ends its sessions when all was said, and begins again.
    parts: bool,
    /// Nodes crash and come back, links break and lose: what counts is that they talk in the end.
    is_rough: bool,
}

impl Play {
    fn run(self) -> Result<Verdict, String> {
        let (mix, seeds) = if self.is_rough { (Mix::Default, 0..8) } else { (Mix::Calm, 0..4) };
        let (each, is_rough) = (self.clone(), self.is_rough);
        let expected = self.sizes.len() * if self.parts { 2 } else { 1 };
        let pairs = self.streams.len();
        let simulation = Simulation::new(self.nodes, &self.streams, move |peers, place| {
            Talker::new(each.clone(), peers, place)
        });
        let report = simulation
            .seconds(60)
            .always(|programs| {
                let wrong = programs.iter().flatten().find_map(|program| program.wrong.clone());
                wrong.map_or(Ok(()), Err)
            })
            .finally(move |programs| {
                for (place, program) in programs.iter().enumerate() {
                    let Some(program) = program else { continue };
                    // Each talks with the first, and the first with each.
                    let others = if place == 0 { programs.len() - 1 } else { 1 };
                    let heard = &program.heard;
                    let is_all = heard.values().all(|count| is_rough || *count == expected);
                    if heard.len() != others * pairs || !is_all {
                        return Err(format!("node {place} has heard {heard:?}"));
                    }
                }
                Ok(())
            })
            .run(mix, seeds)
            .map_err(|failed| failed.to_string())?;
        if report.delivered == 0 || (is_rough && report.faults == 0) {
            return Err(format!("nothing has happened: {report:?}"));
        }
        Ok(Verdict::Passed)
    }
}

/// Says its numbers to the first node, or if it is the first to all others.
#[derive(Debug)]
struct Talker {
    play: Play,
    streams: Vec<StreamName>,
    peers: Vec<Peer>,
    dials: bool,
    rounds: BTreeMap<PublicKey, usize>,
    said: BTreeMap<(PublicKey, StreamName), usize>,
    heard: BTreeMap<(PublicKey, StreamName), usize>,
    wrong: Option<String>,
}

impl Talker {
    fn new(play: Play, peers: &[Peer], place: usize) -> Self {
        let others = if place == 0 { 1..peers.len() } else { 0..1 };
        Self {
            streams: play.streams.iter().filter_map(|name| StreamName::new(name).ok()).collect(),
            peers: peers.get(others).unwrap_or_default().to_vec(),
            dials: place == 0 || play.all_dial,
            play,
            rounds: BTreeMap::new(),
            said: BTreeMap::new(),
            heard: BTreeMap::new(),
            wrong: None,
        }
    }

    fn talk(&mut self, context: &mut dyn Context, peer: PublicKey) {
        let is_rough = self.play.is_rough;
        let round = self.rounds.get(&peer).copied().unwrap_or_default();
        let limit = self.play.sizes.len() * (round + 1);
        let mut is_all_said = true;
        for stream in &self.streams {
            let said = self.said.entry((peer, stream.clone())).or_default();
            while *said < limit || is_rough {
                let size = self.play.sizes.get(*said % self.play.sizes.len()).copied();
                let mut message = vec![0; size.unwrap_or_default()];
                let number = u64::try_from(*said).unwrap_or_default().to_be_bytes();
                if let Some(front) = message.get_mut(..8) {
                    front.copy_from_slice(&number);
                }
                if context.send(peer, stream, message.into()).is_err() {
                    break;
                }
                *said += 1;
                if is_rough {
                    // One for each tick, for as long as it lasts.
                    break;
                }
            }
            is_all_said &= *said >= limit;
        }
        let has_heard = self.heard.iter().any(|((from, _), count)| *from == peer && *count > 0);
        if self.play.parts && self.dials && is_all_said && has_heard && round == 0 {
            self.rounds.insert(peer, 1);
            context.disconnect(peer);
        }
    }
}

impl Handler for Talker {
    fn on_start(&mut self, context: &mut dyn Context) {
        context.set_timer(0, Duration::from_millis(10));
    }

    fn on_event(&mut self, context: &mut dyn Context, notice: Notice) {
        if let Notice::State { peer, state: ConnectionState::Established, .. } = notice {
            // The other side follows the first into the next round.
            let begun = self.said.iter().any(|((of, _), said)| *of == peer && *said > 0);
            if self.play.parts && !self.dials && begun {
                self.rounds.insert(peer, 1);
            }
            self.talk(context, peer);
        }
    }

    fn on_message(
        &mut self,
        _: &mut dyn Context,
        from: PublicKey,
        stream: &StreamName,
        message: Bytes,
    ) {
        let count = self.heard.entry((from, stream.clone())).or_default();
        let expected = u64::try_from(*count).unwrap_or_default().to_be_bytes();
        let size = self.play.sizes.get(*count % self.play.sizes.len()).copied();
        let is_next = message.get(..8) == Some(&expected[..]) && Some(message.len()) == size;
        if !is_next && !self.play.is_rough {
            self.wrong = Some(format!("{} bytes on {stream} as number {count}", message.len()));
        }
        *count += 1;
    }

    fn on_timer(&mut self, context: &mut dyn Context, timer: u64) {
        for peer in self.peers.clone() {
            match context.state(peer.key) {
                ConnectionState::Established => self.talk(context, peer.key),
                ConnectionState::Disconnected if self.dials => {
                    context.add_peer(peer.key, &[peer.address]);
                    context.connect(peer.key);
                }
                _ => {}
            }
        }
        context.set_timer(timer, Duration::from_millis(500));
    }
}
