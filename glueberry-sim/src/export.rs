//! A trace as JSON lines, for tools.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::report::spoken;
use crate::trace::{NOWHERE, Note};
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

/// Returns the connection that a note is about, if it is about one.
pub(crate) fn connection(note: &Note) -> Value {
    if note.link == NOWHERE { Value::Null } else { json!(note.link) }
}
