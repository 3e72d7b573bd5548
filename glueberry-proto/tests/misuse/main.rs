//! What a driver can do wrong: what happens then, and what the driver learns, as `MISUSE.md` says. `cargo
//! test -p glueberry-proto --test misuse -- --nocapture` prints the table.

#![expect(clippy::unwrap_used, reason = "tests")]

mod endpoint;
mod node;
mod session;
mod setup;

/// One misuse.
struct Row {
    misuse: &'static str,
    happens: &'static str,
    /// What the driver gets to see, as text.
    told: &'static str,
    /// Commits it, checks what happens, and returns what the driver was told.
    run: fn() -> String,
}

#[test]
fn every_misuse_is_named_or_harmless() {
    let rows = setup::ROWS.iter().chain(node::ROWS).chain(session::ROWS).chain(endpoint::ROWS);
    let (mut count, mut wrong) = (0, Vec::new());
    println!("| # | misuse | what happens | what the driver learns |\n|---|---|---|---|");
    for row in rows {
        count += 1;
        println!("| {count} | {} | {} | {} |", row.misuse, row.happens, row.told);
        let line = format!("| {} | {} | {} |", row.misuse, row.happens, row.told);
        if !PAGE.lines().any(|it| it == line) {
            wrong.push(format!("MISUSE.md does not have `{line}`"));
        }
        let told = (row.run)();
        if told != row.told {
            wrong.push(format!("{}: told `{told}` and not `{}`", row.misuse, row.told));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 39, "{count} rows");
    // Below the head of its table.
    let on_page = PAGE.lines().filter(|line| line.starts_with("| ")).count() - 1;
    assert_eq!(on_page, count, "MISUSE.md has rows of its own");
}

/// Where people read it.
const PAGE: &str = include_str!("../../MISUSE.md");
