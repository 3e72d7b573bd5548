//! Somebody who has the transport: everything that is on its way, and everything that ever was.

use std::ops::Range;

use super::name;
use super::record::{Recorder, STREAMS};
use crate::testing::pair::{Half, Pair, Side};
use crate::testing::script::Script;
use crate::wire::Profile;
use crate::{Naming, ProtocolId};

/// Has a go at what is on its way on one substream: at frames, at records or at bytes.
pub(super) fn alter(pair: &mut Pair<Recorder>, script: &mut Script<'_>) {
    let (how, one, other) = (script.byte(), script.number(), script.number());
    let Some(half) = half(pair, script.number()) else {
        return;
    };
    let mut units = units(&half.bytes, how >> 6);
    if units.is_empty() {
        return;
    }
    let (one, other) = (one % units.len(), other % units.len());
    let mut bytes = std::mem::take(&mut half.bytes);
    match how & 7 {
        0 | 1 => {
            let unit = units[one].clone();
            let at = unit.start + other % unit.len();
            bytes[at] ^= 1 << (how >> 3 & 7);
        }
        2 => drop(units.remove(one)),
        3 => units.insert(other, units[one].clone()),
        4 | 5 => units.swap(one, other),
        6 => units.truncate(one),
        _ => units.reverse(),
    }
    for unit in units {
        half.bytes.extend_from_slice(&bytes[unit]);
    }
}

/// Puts what was once written before, into or behind what is on its way elsewhere.
pub(super) fn splice(pair: &mut Pair<Recorder>, script: &mut Script<'_>) {
    let (how, at, of) = (script.byte(), script.number(), script.number());
    let count = pair.app.flights.len();
    if count == 0 {
        return;
    }
    let flight = pair.app.flights[of % count].clone();
    let Some(half) = half(pair, script.number()) else {
        return;
    };
    let units = units(&half.bytes, how >> 6);
    let at = units.get(at).map_or(half.bytes.len(), |unit| unit.start);
    let tail = half.bytes.split_off(at);
    // From its second unit on, if it has one.
    let parts = self::units(&flight, how >> 4);
    let from = parts.get(usize::from(how & 3)).map_or(0, |unit| unit.start);
    half.bytes.extend_from_slice(&flight[from..]);
    half.bytes.extend_from_slice(&tail);
}

/// Opens a substream, with something that was once written, or with bytes.
pub(super) fn intrude(pair: &mut Pair<Recorder>, choice: u8, script: &mut Script<'_>) {
    let (link, of) = (script.number(), script.number());
    if pair.links.is_empty() {
        return;
    }
    let link = link % pair.links.len();
    let protocol = protocol(choice >> 1 & 3);
    let protocol = Some(protocol).filter(|_| pair.naming == Naming::Negotiated);
    let (side, before) = (Side::from(choice & 1), pair.links[link].pipes.len());
    pair.intrude(link, side, protocol);
    let flights = &pair.app.flights;
    let bytes = match flights.get(of) {
        Some(flight) if choice & 8 == 0 => flight.clone(),
        _ => script.take(of).to_vec().into(),
    };
    if let Some(pipe) = pair.links[link].pipes.get_mut(before) {
        pipe.towards[side].bytes.extend_from_slice(&bytes);
    }
}

/// Ends a half as its writer would, or breaks it, or both. Returns whether it was ended as by its writer.
pub(super) fn end(pair: &mut Pair<Recorder>, choice: u8, script: &mut Script<'_>) -> bool {
    let Some(half) = half(pair, script.number()) else {
        return false;
    };
    match choice & 3 {
        0 => half.fin = true,
        1 => half.reset = true,
        2 => half.stopped = true,
        _ => (half.reset, half.stopped) = (true, true),
    }
    half.fin
}

/// Returns one of the directions of the substreams, those with bytes on their way first.
fn half(pair: &mut Pair<Recorder>, which: usize) -> Option<&mut Half> {
    let pipes = pair.links.iter_mut().flat_map(|link| &mut link.pipes);
    let mut halves: Vec<&mut Half> = pipes.flat_map(|pipe| &mut pipe.towards).collect();
    halves.sort_by_key(|half| half.bytes.is_empty());
    let count = halves.len().max(1);
    halves.into_iter().nth(which % count)
}

fn protocol(choice: u8) -> ProtocolId {
    match STREAMS.get(usize::from(choice)) {
        Some(stream) => Profile::V2.stream_id(name(stream)),
        None => Profile::V2.handshake_id(),
    }
}

/// Cuts bytes into what they may consist of: records, records behind the preamble of an instance,
/// frames, or small pieces.
fn units(bytes: &[u8], how: u8) -> Vec<Range<usize>> {
    let mut units = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let rest = &bytes[start..];
        let len = match how & 3 {
            1 if start == 0 => PREAMBLE,
            0 | 1 => rest.first_chunk().map_or(1, |len| 2 + usize::from(u16::from_be_bytes(*len))),
            2 => frame_len(rest),
            _ => PIECE,
        };
        let end = start + len.clamp(1, rest.len());
        units.push(start..end);
        start = end;
    }
    units
}

/// Returns the length of a frame with its varint.
fn frame_len(bytes: &[u8]) -> usize {
    match bytes.iter().take(3).position(|byte| *byte < 0x80) {
        Some(0) => 1 + usize::from(bytes[0]),
        Some(_) => 2 + (usize::from(bytes[0] & 0x7f) | usize::from(bytes[1] & 0x7f) << 7),
        None => 1,
    }
}

/// Of an instance.
const PREAMBLE: usize = 12;
const PIECE: usize = 5;
