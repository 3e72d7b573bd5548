//! The example of two nodes in a page runs, and does what it says: in WebAssembly, too.

#[path = "../examples/page.rs"]
mod page;

#[test]
fn two_nodes_in_a_page_talk_and_end_in_order() {
    let echoes = page::run([[1; 32], [2; 32]], [[3; 32], [4; 32]]).unwrap();
    let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(echoes, expected);
}

#[path = "support/glue.rs"]
mod glue;

#[test]
fn the_lines_of_glue_are_as_documented() {
    glue::check("page", include_str!("../examples/page.rs"));
}
