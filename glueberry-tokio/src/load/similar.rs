//! Which field was meant by a name that is none.

/// Returns the known name that is most like a given one, if any is like it. Both may have parts in front
/// that the other lacks: a field is often named in the wrong table, or without its own.
///
/// Each known name comes with its tails, see [`tails`].
pub(super) fn similar(
    given: &[String],
    known: impl Iterator<Item = (String, Vec<String>)>,
) -> Option<String> {
    let close = known.filter_map(|(name, tails)| {
        let pairs = given.iter().enumerate().flat_map(|(left, given)| {
            let distances = tails.iter().enumerate();
            distances.map(move |(right, tail)| (distance(given, tail), left + right, given.len()))
        });
        // Of a short name too little is left if much of it differs.
        let like = pairs.filter(|(distance, _, length)| *distance <= 3 && distance * 2 < *length);
        let (distance, left_out, _) = like.min()?;
        Some((distance, left_out, name))
    });
    close.min().map(|(_, _, name)| name)
}

/// Returns a name, and what is left of it without its first part, its first two, and so on.
pub(super) fn tails<S: AsRef<str>>(parts: &[S], separator: &str) -> Vec<String> {
    let join = |from: usize| {
        let parts: Vec<&str> = parts[from..].iter().map(AsRef::as_ref).collect();
        parts.join(separator)
    };
    (0..parts.len()).map(join).collect()
}

/// Returns how many characters differ, at least: Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
