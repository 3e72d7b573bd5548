//! A trace as files: JSON lines for tools, a page with a picture for people.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::plan::{Plan, What};
use crate::report::spoken;
use crate::trace::{Kind, NOWHERE, Note};
use crate::world::World;

/// Returns the plan, every note and the outcome, one JSON object per line.
pub(crate) fn json_lines(world: &World) -> String {
    let mut out = String::new();
    let plan = json!({ "plan": world.plan() });
    let mut line = |value: &Value| writeln!(out, "{value}").unwrap_or_default();
    line(&plan);
    for note in world.trace().all() {
        line(&json!({
            "at": note.at,
            "node": note.host,
            "connection": connection(note),
            "what": note.what.name(),
            "a": note.a,
            "b": note.b,
            "text": spoken(note, world.plan()),
        }));
    }
    line(&json!({
        "hash": format!("{:032x}", world.trace().hash()),
        "broken": world.violation().map(ToString::to_string),
    }));
    out
}

/// Returns a page that shows the run: nodes as lanes, messages as arrows, states as colours.
///
/// It needs nothing but a browser.
pub(crate) fn page(world: &World, title: &str) -> String {
    let notes: Vec<Value> = world
        .trace()
        .all()
        .iter()
        .filter(|note| is_shown(note))
        .map(|note| {
            json!([
                note.at,
                note.host,
                connection(note),
                note.what.name(),
                note.a,
                note.b,
                spoken(note, world.plan())
            ])
        })
        .collect();
    let data = json!({
        "title": title,
        "nodes": world.plan().hosts.len(),
        "end": world.now(),
        "calm": world.plan().calm_from,
        "notes": notes,
        "faults": faults(world.plan()),
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

fn connection(note: &Note) -> Value {
    if note.link == NOWHERE { Value::Null } else { json!(note.link) }
}

/// Leaves out what would only blur the picture.
fn is_shown(note: &Note) -> bool {
    !matches!(
        note.what,
        Kind::SessionMessage | Kind::NodeMessage | Kind::NodeTimer | Kind::SessionTimer
    )
}

/// What went wrong, with its time and how long it lasted.
fn faults(plan: &Plan) -> Vec<Value> {
    let steps = plan.steps.iter().filter(|step| !step.what.is_wish());
    steps
        .map(|step| {
            let text = format!("{:?}", step.what);
            json!([step.at, step.what.lasts(), step.what.hosts().first(), text])
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
            Self::Crash { down, .. } => down,
            _ => 0,
        }
    }
}

const PAGE: &str = include_str!("timeline.html");
