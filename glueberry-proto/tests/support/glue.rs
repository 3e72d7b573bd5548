//! Counts the glue of an example, and compares the figure in the documentation.

pub(crate) fn check(example: &str, source: &str) {
    let glue = source.lines().map(str::trim).skip_while(|line| !line.contains("glue: begin"));
    let glue = glue.take_while(|line| !line.contains("glue: end"));
    let count = glue.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    let docs = include_str!("../../src/endpoint/mod.rs");
    let expected = format!("The glue of `examples/{example}.rs` has {count} lines");
    assert!(docs.contains(&expected), "the documentation does not say: {expected}");
}
