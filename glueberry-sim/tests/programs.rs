//! A program of an application author, right and wrong.

#![cfg(test)]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::handler::{Context, Handler, Notice};
use glueberry_proto::{ConnectionState, PublicKey, StreamName};
use glueberry_sim::{Invariant, Mix, Peer, Simulation};

/// Learns the words of all others, and passes on what it has learnt.
struct Gossip {
    peers: Vec<Peer>,
    place: usize,
    known: BTreeSet<u64>,
    stream: StreamName,
    /// Passes on what is new only once, when it comes: who is away then never learns it.
    is_careless: bool,
}

impl Gossip {
    fn tell(&self, context: &mut dyn Context, words: &[u64]) {
        let message: Bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for peer in &self.peers {
            if context.state(peer.key) == ConnectionState::Established {
                context.send(peer.key, &self.stream, message.clone()).ok();
            }
        }
    }
}

impl Handler for Gossip {
    fn on_start(&mut self, context: &mut dyn Context) {
        self.known.insert(u64::try_from(self.place).unwrap());
        context.set_timer(0, Duration::from_millis(10));
    }

    fn on_event(&mut self, _: &mut dyn Context, _: Notice) {}

    fn on_message(
        &mut self,
        context: &mut dyn Context,
        _: PublicKey,
        _: &StreamName,
        message: Bytes,
    ) {
        let words = message.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let new: Vec<u64> = words.filter(|word| self.known.insert(*word)).collect();
        if !new.is_empty() {
            self.tell(context, &new);
        }
    }

    fn on_timer(&mut self, context: &mut dyn Context, tick: u64) {
        let next = self.peers[(self.place + 1) % self.peers.len()].clone();
        context.add_peer(next.key, &[next.address]);
        context.connect(next.key);
        if !self.is_careless || tick == 3 {
            let words: Vec<u64> = self.known.iter().copied().collect();
            self.tell(context, &words);
        }
        context.set_timer(tick + 1, Duration::from_secs(2));
    }
}

fn simulation(is_careless: bool) -> Simulation<Gossip> {
    Simulation::new(5, &["gossip"], move |peers, place| Gossip {
        peers: peers.to_vec(),
        place,
        known: BTreeSet::new(),
        stream: StreamName::new("gossip").unwrap(),
        is_careless,
    })
    .seconds(120)
    .always(|programs| {
        let too_much = programs.iter().flatten().find(|program| program.known.len() > 5);
        too_much.map_or(Ok(()), |program| Err(format!("{} knows too much", program.place)))
    })
    .finally(|programs| {
        let ignorant = programs.iter().flatten().find(|program| program.known.len() < 5);
        ignorant.map_or(Ok(()), |program| {
            Err(format!("{} only knows {:?}", program.place, program.known))
        })
    })
}

#[test]
fn a_program_that_repeats_itself_survives_every_fault() {
    let report = simulation(false).run(Mix::Default, 0..20).unwrap();
    assert_eq!(report.runs, 20);
    assert!(report.faults > 100, "{report:?}");
    assert!(report.delivered > 1_000, "{report:?}");
}

#[test]
fn a_program_that_tells_things_once_is_found_out() {
    let failed = simulation(true).run(Mix::Default, 0..20).unwrap_err();
    assert_eq!(failed.violation.invariant, Invariant::Application, "{failed}");
    assert!(failed.violation.clash.contains("only knows"), "{failed}");
    // The seed alone repeats it.
    let again = simulation(true).run(Mix::Default, failed.seed..failed.seed + 1).unwrap_err();
    assert_eq!(again.violation, failed.violation);
}
