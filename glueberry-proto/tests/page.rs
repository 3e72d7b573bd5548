//! The example of two nodes in a page runs, and does what it says: in WebAssembly, too.

#[path = "support/glue.rs"]
mod glue;
#[path = "../examples/page/nodes.rs"]
mod nodes;

use nodes::Random;

#[test]
fn two_nodes_in_a_page_talk_and_end_in_order() {
    let random = |byte| Random { secret: [byte; 32], seed: [byte; 32] };
    let report = nodes::run([random(1), random(2)]).unwrap();
    assert_eq!(report.echoes, nodes::MESSAGES);
    assert_eq!(report.in_doubt, 0, "an orderly end leaves nothing in doubt");
}

#[test]
fn the_lines_of_glue_are_as_documented() {
    glue::check("page/nodes", include_str!("../examples/page/nodes.rs"));
}
