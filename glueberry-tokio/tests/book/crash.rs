//! `kill -9` at any instant.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::thread;
use std::time::Duration;

use glueberry_tokio::proto::book::{Book, Limits};
use glueberry_tokio::proto::{PublicKey, WallTime};

use crate::support::{
    BOOK, LOCK, Running, Scratch, TEMPORARY, child, open_whole, path_of_child, peer,
};

/// The child saves without a pause, each time another book, and says so after each; the parent
/// kills it. What is left is a whole book: the last one that the child has said is saved, or the
/// one that it was about to save.
#[test]
fn a_killed_process_leaves_the_old_book_or_the_new_one() {
    let peers = [1, 2, 3, 4, 5].map(peer);
    if let Some(path) = path_of_child() {
        let (mut store, before) = open_whole(&path);
        // The harness has begun a line.
        println!();
        for number in number_of(&before, &peers) + 1.. {
            store.save(&numbered(number, &peers)).unwrap();
            println!("{number}");
        }
    }

    let scratch = Scratch::new();
    let path = scratch.path(BOOK);
    let (mut last, mut half_written, mut unsaid, mut random) = (0, 0, 0, Random(SEED));
    for round in 0..ROUNDS {
        let test = "crash::a_killed_process_leaves_the_old_book_or_the_new_one";
        let (mut saving, mut output) = Running::start(child(test, &path));
        // Some die before they have saved at all, most a little later.
        let mut said = None;
        if random.below(4) > 0 {
            said = next_said(&mut output);
            assert!(said.is_some(), "the child ended by itself in round {round}");
        }
        thread::sleep(Duration::from_micros(random.below(8_000)));
        saving.kill();
        while let Some(number) = next_said(&mut output) {
            said = Some(number);
        }

        half_written += u32::from(scratch.path(TEMPORARY).exists());
        let (_, book) = open_whole(&path);
        let number = number_of(&book, &peers);
        let acknowledged = said.unwrap_or(last);
        assert!(acknowledged >= last);
        assert!(
            number == acknowledged || number == acknowledged + 1,
            "round {round}: {acknowledged} was saved, {number} is left",
        );
        if number > 0 {
            assert_eq!(fs::read(&path).unwrap(), numbered(number, &peers), "round {round}");
        }
        assert_eq!(scratch.names(), if number > 0 { &[BOOK, LOCK][..] } else { &[LOCK] });
        unsaid += u32::from(number > acknowledged);
        last = number;
    }
    // The kills have hit both sides of the rename.
    println!(
        "{ROUNDS} rounds, {last} saves: {half_written} half written, {unsaid} renamed but not said"
    );
    assert!(last > u64::from(ROUNDS / 2));
    assert!(half_written > 0 && unsaid > 0);
}

/// Reads what the child says until it has said that a save was done; `None` at the end. What was
/// cut off is not said.
fn next_said(output: &mut BufReader<ChildStdout>) -> Option<u64> {
    loop {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        if !line.ends_with('\n') {
            return None;
        }
        if let Ok(number) = line.trim_end().parse() {
            return Some(number);
        }
    }
}

/// A book that tells its number in each of its entries, as long as the number makes it.
fn numbered(number: u64, peers: &[PublicKey]) -> Vec<u8> {
    let mut book = Book::new(Limits::default());
    let len = usize::try_from(number * 997 % 4000).unwrap();
    let count = 1 + usize::try_from(number).unwrap() % peers.len();
    for &peer in &peers[..count] {
        let pairs = [(NUMBER, number.to_string()), ("padding", "p".repeat(len))];
        let metadata = pairs.map(|(key, value)| (key.to_owned(), value)).into();
        book.add(peer, Vec::new(), Some(metadata), WallTime::UNIX_EPOCH).unwrap();
    }
    book.emit()
}

/// The number that every entry of the book tells; 0 if it is empty.
fn number_of(book: &Book, peers: &[PublicKey]) -> u64 {
    let mut numbers = book.iter().map(|(peer, entry)| {
        assert!(peers.contains(&peer));
        entry.metadata()[NUMBER].parse::<u64>().unwrap()
    });
    let Some(number) = numbers.next() else { return 0 };
    assert!(numbers.all(|other| other == number));
    number
}

/// A small generator, so that a failure's delays are the same when it is tried again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // Knuth's MMIX.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

const ROUNDS: u32 = 500;
const SEED: u64 = 0x00b0_0c5e_ed00;
const NUMBER: &str = "number";
