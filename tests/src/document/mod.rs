//! `DOCUMENT.md` says where each name of the architecture document lives here: that it says so of
//! every name, and that what it points to exists.

use std::collections::BTreeSet;
use std::time::Duration;

use glueberry_tokio::Config;

use self::names::SECTIONS;

mod names;
mod paths;

const DOCUMENT: &str = include_str!("../../../glueberry-tokio/DOCUMENT.md");

/// A row of the table.
#[derive(Debug)]
struct Row {
    section: &'static str,
    name: &'static str,
    paths: Vec<&'static str>,
    remark: &'static str,
}

#[test]
fn every_name_of_the_document_is_in_the_table() {
    let rows = rows();
    let sections: Vec<&str> = DOCUMENT.lines().filter_map(|l| l.strip_prefix("## ")).collect();
    assert_eq!(sections, SECTIONS.iter().map(|(section, _)| *section).collect::<Vec<_>>());
    for (section, names) in SECTIONS {
        let told: Vec<&str> =
            rows.iter().filter(|row| row.section == *section).map(|row| row.name).collect();
        assert_eq!(told, *names, "names under `{section}`");
    }
}

#[test]
fn names_are_listed_once() {
    for (section, names) in SECTIONS {
        let mut seen = BTreeSet::new();
        for name in *names {
            assert!(seen.insert(name), "`{name}` is twice under `{section}`");
        }
    }
}

/// The compiler has seen to it that what is in `paths` exists. Remarks may leave a path's beginning
/// out.
#[test]
fn every_path_of_the_table_exists() {
    let (rows, exist) = (rows(), paths::all());
    let mut unused = exist.clone();
    for row in &rows {
        for path in &row.paths {
            assert!(exist.contains(*path), "not known to exist: `{path}` in {row:?}");
            unused.remove(*path);
        }
        for mention in mentions(row.remark) {
            let is_meant = |path: &String| {
                path.strip_suffix(mention)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with(':'))
            };
            assert!(exist.iter().any(is_meant), "not known to exist: `{mention}` in {row:?}");
            unused.retain(|path| !is_meant(path));
        }
    }
    assert!(unused.is_empty(), "known to exist, but not in the table: {unused:#?}");
}

#[test]
fn what_lives_nowhere_says_why() {
    for row in rows() {
        let excused = ["not yet: ", "none: "].iter().any(|why| row.remark.starts_with(why));
        assert!(!row.paths.is_empty() || excused, "no path and no reason: {row:?}");
    }
}

#[test]
fn defaults_are_the_documents() {
    let config = Config::default();
    assert_eq!(config.core.handshake_timeout, Duration::from_secs(60));
    assert_eq!(config.core.max_message_size, 10 * 1024 * 1024);
    assert_eq!(config.core.reconnect.initial_backoff, Duration::from_secs(1));
    assert_eq!(config.core.reconnect.max_backoff, Duration::from_secs(5 * 60));
    assert_eq!(config.core.reconnect.max_attempts, Some(10));
    assert_eq!(config.event_buffer, 100);
    assert_eq!(config.message_buffer, 1000);
    assert_eq!(config.core.high_watermark, 1000);
    assert_eq!(config.core.low_watermark, 500);
    assert!(!config.disable_backpressure);
    assert_eq!(glueberry_tokio::HANDSHAKE, "handshake");
}

/// Reads the tables.
fn rows() -> Vec<Row> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in DOCUMENT.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        // The heads of the tables have no name in backquotes.
        if line.starts_with("| `") {
            rows.push(row(section, line));
        }
    }
    assert!(!rows.is_empty(), "no tables");
    rows
}

/// Returns the paths in a remark.
fn mentions(remark: &str) -> impl Iterator<Item = &str> {
    remark.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::"))
}

fn row(section: &'static str, line: &'static str) -> Row {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, name, paths, remark, _] = cells[..] else {
        panic!("not three cells: {line}");
    };
    let quoted = |text: &'static str| {
        let inner = text.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
        inner.filter(|inner| !inner.contains('`')).unwrap_or_else(|| panic!("not quoted: {line}"))
    };
    let paths = match paths {
        "" => Vec::new(),
        paths => paths.split(", ").map(quoted).collect(),
    };
    Row { section, name: quoted(name), paths, remark }
}
