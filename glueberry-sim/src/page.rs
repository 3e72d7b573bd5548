//! A run as a page with a picture. It needs nothing but a browser.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};

use serde_json::{Value, json};

use crate::export::connection;
use crate::model::Fate;
use crate::plan::{Plan, STREAMS, What};
use crate::report::spoken;
use crate::trace::{Kind, Note};
use crate::world::World;

/// Returns a page that shows the run: nodes as lanes, states as colours, messages as arrows.
pub(crate) fn page(world: &World, title: &str) -> String {
    let notes = world.trace().all();
    let plan = world.plan();
    let states = notes.iter().filter(|note| note.what == Kind::State);
    let events = notes.iter().filter(|note| is_an_event(note.what));
    let data = json!({
        "title": title,
        "nodes": plan.hosts.len(),
        "streams": STREAMS,
        "end": world.now(),
        "calm": plan.calm_from,
        "states": states.map(|it| json!([it.at, it.host, it.a, it.b])).collect::<Vec<_>>(),
        "events": events.map(|it| json!([it.at, it.host, connection(it), it.what.name(), spoken(it, plan)])).collect::<Vec<_>>(),
        "messages": messages(world).iter().map(Message::json).collect::<Vec<_>>(),
        "down": downtimes(notes, world.now()),
        "faults": faults(plan),
        "broken": world.violation().map(|broken| json!({
            "at": broken.at,
            "node": broken.host,
            "text": broken.to_string(),
        })),
    });
    // A text in a script element ends it only by this.
    let data = data.to_string().replace("</", "<\\/");
    PAGE.replace("/*DATA*/", &data)
}

/// Leaves out what the page shows in another way, and single steps of substreams and timers, of which
/// there are a hundred times as many as of all the rest.
const fn is_an_event(what: Kind) -> bool {
    !matches!(
        what,
        Kind::State
            | Kind::Send
            | Kind::Received
            | Kind::Fault
            | Kind::SessionMessage
            | Kind::NodeMessage
            | Kind::NodeTimer
            | Kind::SessionTimer
            | Kind::Opened
            | Kind::Accepted
            | Kind::Data
            | Kind::End
            | Kind::Acknowledged
            | Kind::Write
            | Kind::Finish
            | Kind::Open
            | Kind::Piped
    )
}

/// A message that a session has accepted.
struct Message {
    sent_at: u64,
    from: usize,
    /// Unknown if the peer is no host of the run any more.
    to: Option<usize>,
    link: usize,
    number: u64,
    stream: Option<u64>,
    received_at: Option<u64>,
    /// When one of its two sessions ended before it was received.
    lost_at: Option<u64>,
    /// It was given back to its sender.
    is_unsent: bool,
}

impl Message {
    fn json(&self) -> Value {
        let Self { sent_at, from, to, link, number, stream, received_at, lost_at, is_unsent } =
            self;
        json!([sent_at, from, to, link, number, stream, received_at, lost_at, is_unsent])
    }
}

/// Returns every message that was accepted, with its end.
fn messages(world: &World) -> Vec<Message> {
    let mut all: Vec<Message> = Vec::new();
    // By connection and number. Programs may send the same bytes more than once.
    let mut under_way: BTreeMap<(usize, u64), VecDeque<usize>> = BTreeMap::new();
    for note in world.trace().all() {
        match note.what {
            Kind::Send if note.b == 1 => {
                under_way.entry((note.link, note.a)).or_default().push_back(all.len());
                all.push(sent(world, note));
            }
            Kind::Received => {
                let mut waiting = match under_way.entry((note.link, note.a)) {
                    Entry::Occupied(waiting) => waiting,
                    Entry::Vacant(_) => continue,
                };
                if let Some(one) = waiting.get_mut().pop_front().and_then(|it| all.get_mut(it)) {
                    (one.received_at, one.stream) = (Some(note.at), Some(note.b));
                    // What was written before its session ended may be read after that.
                    one.lost_at = None;
                }
                if waiting.get().is_empty() {
                    waiting.remove();
                }
            }
            Kind::Closed => {
                let of_session = (note.link, 0)..=(note.link, u64::MAX);
                for index in under_way.range(of_session).flat_map(|(_, indices)| indices) {
                    lose(&mut all, *index, note, |one| one.from == note.host);
                }
            }
            Kind::Crash => {
                for index in under_way.values().flatten() {
                    let is_at = |one: &Message| one.from == note.host || one.to == Some(note.host);
                    lose(&mut all, *index, note, is_at);
                }
            }
            _ => {}
        }
    }
    all
}

fn lose(all: &mut [Message], index: usize, note: &Note, is_it: impl Fn(&Message) -> bool) {
    if let Some(one) = all.get_mut(index).filter(|one| is_it(one)) {
        one.lost_at.get_or_insert(note.at);
    }
}

/// Returns a message as it was sent, with what the model knows of it.
fn sent(world: &World, note: &Note) -> Message {
    let ends = world.ends_of(note.link);
    let known = usize::try_from(note.a).ok().and_then(|number| world.model().get(number));
    Message {
        sent_at: note.at,
        from: note.host,
        to: ends.and_then(|ends| ends.into_iter().find(|host| *host != note.host)),
        link: note.link,
        number: note.a,
        stream: known.map(|sent| crate::rng::u64_of(sent.stream)),
        received_at: None,
        lost_at: None,
        is_unsent: known.is_some_and(|sent| sent.fate == Fate::Unsent),
    }
}

/// Returns when which host was down: from the moment that it was killed, which may be long after the
/// step that asks for it.
fn downtimes(notes: &[Note], end: u64) -> Vec<Value> {
    let crashes = notes.iter().enumerate().filter(|(_, note)| note.what == Kind::Crash);
    crashes
        .map(|(at, crash)| {
            let mut later = notes.iter().skip(at);
            let is_up = |note: &&Note| note.what == Kind::Start && note.host == crash.host;
            json!([crash.at, later.find(is_up).map_or(end, |note| note.at), crash.host])
        })
        .collect()
}

/// Returns what went wrong: when, how long, and at which hosts.
fn faults(plan: &Plan) -> Vec<Value> {
    let is_fault = |what: &What| !what.is_wish() && !matches!(what, What::Crash { .. });
    let steps = plan.steps.iter().filter(|step| is_fault(&step.what));
    steps
        .map(|step| {
            let (hosts, text) = match step.what {
                What::Partition { hosts, one_way, .. } => {
                    let cut: Vec<usize> =
                        (0..plan.hosts.len()).filter(|host| hosts >> host & 1 == 1).collect();
                    let way = if one_way { "nothing reaches" } else { "nothing passes between" };
                    let rest = if one_way { "from the others" } else { "and the others" };
                    let text = format!("{way} {cut:?} {rest}");
                    (cut, text)
                }
                what => (what.hosts(), format!("{what:?}")),
            };
            json!([step.at, step.what.lasts(), hosts, text])
        })
        .collect()
}

impl What {
    /// Returns how long a step is felt, in microseconds.
    const fn lasts(&self) -> u64 {
        match *self {
            Self::Partition { lasts, .. }
            | Self::Spike { lasts, .. }
            | Self::Stall { lasts, .. }
            | Self::Pause { lasts, .. }
            | Self::Sluggish { lasts, .. }
            | Self::Absent { lasts, .. }
            | Self::Mislead { lasts, .. }
            | Self::Refuse { lasts, .. }
            | Self::Ban { lasts, .. }
            | Self::FullDisk { lasts, .. } => lasts,
            Self::Flap { times, every, .. } => 2 * times * every,
            _ => 0,
        }
    }
}

const PAGE: &str = include_str!("timeline.html");
