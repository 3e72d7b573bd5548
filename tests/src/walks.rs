//! The walks in `docs` name files and functions: that each function stands in its file.

use std::path::Path;

/// Returns the pairs of file and function that a page names, each in backquotes, one behind the
/// other.
fn steps(page: &str) -> Vec<(&str, &str)> {
    let quoted: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let pairs = quoted.windows(2).filter(|pair| pair[0].ends_with(".rs"));
    pairs.map(|pair| (pair[0], pair[1])).collect()
}

/// Returns whether a source defines a function, which may be named with the type that has it.
fn defines(source: &str, name: &str) -> bool {
    let (owner, function) = name.split_once("::").unwrap_or(("", name));
    let has_function = [format!("fn {function}("), format!("fn {function}<")]
        .iter()
        .any(|signature| source.contains(signature));
    let has_owner = source.lines().any(|line| {
        line.starts_with("impl") && line.split(|c: char| !c.is_alphanumeric()).any(|it| it == owner)
    });
    has_function && (owner.is_empty() || has_owner)
}

#[test]
fn every_function_of_a_walk_stands_in_its_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for page in ["message.md", "dial.md", "loss.md"] {
        let text = std::fs::read_to_string(root.join("docs").join(page)).unwrap();
        let text = text.split("```").step_by(2).collect::<String>();
        let steps = steps(&text);
        assert!(steps.len() > 15, "{page}: {} steps", steps.len());
        for (file, name) in steps {
            let source = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{page}: {file}: {error}"));
            assert!(defines(&source, name), "{page}: no {name} in {file}");
        }
    }
}
