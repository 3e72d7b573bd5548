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

#[test]
fn the_lines_of_glue_are_as_documented() {
    let source = include_str!("../examples/embedded.rs");
    let glue = source.lines().map(str::trim).skip_while(|line| !line.contains("glue: begin"));
    let glue = glue.take_while(|line| !line.contains("glue: end"));
    let count = glue.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    let docs = include_str!("../src/endpoint/mod.rs");
    let expected = format!("The glue of `examples/embedded.rs` has {count} lines");
    assert!(docs.contains(&expected), "the documentation does not say: {expected}");
}
