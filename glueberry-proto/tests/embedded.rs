//! The example runs, and does what it says.

#![cfg(not(target_family = "wasm"))]
#[path = "../examples/embedded.rs"]
mod embedded;

#[test]
fn the_embedding_reconnects_and_ends_in_order() {
    let report = embedded::run().unwrap();
    let expected: Vec<_> = (0..20).map(|number| format!("hello {}", number % 10)).collect();
    assert_eq!(report.echoes, expected);
    assert_eq!(report.established, 2, "it was reconnected once");
    assert_eq!(report.received, 21, "with the last message");
    assert_eq!(report.in_doubt, 0, "an orderly end leaves nothing in doubt");
}

#[path = "support/glue.rs"]
mod glue;

#[test]
fn the_lines_of_glue_are_as_documented() {
    glue::check("embedded", include_str!("../examples/embedded.rs"));
}
