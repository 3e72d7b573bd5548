//! `SECURITY.md`, `README.md` and pages in `docs` name tests and defaults: that each test exists, and that each
//! default is the code's.

use std::collections::BTreeSet;
use std::path::Path;

use glueberry_tokio::Config;

/// Returns a file of the repository.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the cells of each row of a page's tables.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

/// Returns what stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the pairs of file and test that the rows of a page's tables name: in each row a test
/// belongs to the last file before it.
fn named_tests(page: &str) -> Vec<(&str, &str)> {
    let mut tests = Vec::new();
    for row in rows(page) {
        let mut file = None;
        for word in row.into_iter().flat_map(quoted) {
            if word.ends_with(".rs") {
                file = Some(word);
            } else if let Some(file) = file {
                tests.push((file, word));
            }
        }
    }
    tests
}

/// Returns whether a file has a test, fuzz target, invariant or attack of this name.
fn has_test(file: &str, name: &str) -> bool {
    let source = read(file);
    if file.starts_with("fuzz/") {
        return source.contains(&format!("::{name}("));
    }
    if file.starts_with("glueberry-sim/src/") && file != "glueberry-sim/src/tests.rs" {
        let definition = format!("{name} \"");
        return source.lines().any(|line| line.trim_start().starts_with(&definition));
    }
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let signature = format!("fn {name}(");
    let starts = |line: &str| {
        ["", "async ", "pub(super) async ", "pub(in crate::hostile) async "]
            .iter()
            .any(|before| line.strip_prefix(before).is_some_and(|it| it.starts_with(&signature)))
    };
    let Some(at) = lines.iter().position(|line| starts(line)) else {
        return false;
    };
    let list = if file.starts_with("tests/src/scenarios/") {
        Some("tests/src/scenarios/mod.rs")
    } else if file.starts_with("tests/src/hostile/scripts/") {
        Some("tests/src/hostile/script.rs")
    } else {
        None
    };
    if let Some(list) = list {
        // These are tests because they are in the list.
        return read(list)
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == name);
    }
    let before = lines[..at].iter().rev();
    before
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
}

/// Returns the promises that the first cells of a text's rows name.
fn promises(text: &str) -> BTreeSet<&str> {
    let first = rows(text).map(|row| row[0]);
    let number = |id: &str| id.strip_prefix('P').is_some_and(|id| id.parse::<u32>().is_ok());
    first.filter(|id| number(id)).collect()
}

/// Returns an amount such as `64 KiB`, `10s` or `1000` as the configuration's JSON has it.
fn amount(text: &str) -> serde_json::Value {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit {
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => 1,
    };
    number.parse().map_or_else(|_| text.into(), |number: u64| (number * factor).into())
}

#[test]
fn every_test_that_is_named_exists() {
    for (page, least) in
        [("SECURITY.md", 150), ("README.md", 18), ("docs/go.md", 15), ("docs/attacks.md", 40)]
    {
        let text = read(page);
        let tests = named_tests(&text);
        assert!(tests.len() >= least, "{page} names {} tests", tests.len());
        for (file, name) in tests {
            assert!(has_test(file, name), "{page}: no test {name} in {file}");
        }
    }
}

/// A check that finds everything would prove nothing.
#[test]
fn what_is_no_test_is_not_found() {
    assert!(has_test("tests/src/promises.rs", "what_is_no_test_is_not_found"));
    assert!(!has_test("tests/src/promises.rs", "read"));
    assert!(!has_test("tests/src/promises.rs", "no_such_test"));
    assert!(!has_test("glueberry-sim/src/check.rs", "NoSuchInvariant"));
    assert!(!has_test("fuzz/targets/preamble.rs", "fuzz_greeting"));
    assert!(has_test("tests/src/scenarios/bans.rs", "ban_expires"));
    assert!(!has_test("tests/src/scenarios/faults.rs", "attentive"));
    assert!(has_test("tests/src/hostile/scripts/names.rs", "thousands_of_proposals"));
    assert!(!has_test("tests/src/hostile/scripts/names.rs", "propose_on"));
}

#[test]
fn each_promise_has_tests_and_each_test_a_promise() {
    let page = read("SECURITY.md");
    let (before, evidence) = page.split_once("\n## 7. Evidence\n").unwrap();
    assert_eq!(promises(before), promises(evidence));
    for word in page.split(|c: char| !c.is_ascii_alphanumeric()) {
        let is_promise = word.strip_prefix('P').is_some_and(|id| {
            (1..3).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
        });
        assert!(!is_promise || promises(before).contains(word), "there is no promise {word}");
    }
}

#[test]
fn limits_are_the_defaults() {
    let page = read("SECURITY.md");
    let config = serde_json::to_value(Config::default()).unwrap();
    let (_, limits) = page.split_once("\n## 6. Limits on resources\n").unwrap();
    let (limits, _) = limits.split_once("\n## ").unwrap();
    let mut checked = 0;
    for row in rows(limits).filter(|row| row[0].starts_with('`')) {
        let field = row[0].trim_matches('`');
        let default = config.pointer(&format!("/{}", field.replace('.', "/")));
        assert_eq!(default, Some(&amount(row[1])), "{field}");
        checked += 1;
    }
    assert!(checked > 25, "{checked} limits");
}
