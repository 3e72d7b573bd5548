//! Records and messages: whatever is written is read, however it is cut.

use std::num::NonZeroU16;
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;

use super::Log;
use crate::crypto::{RustCrypto, SharedKey};
use crate::time::Instant;
use crate::v2::control::Received;
use crate::v2::instance::{InstanceWriter, Last, Open, Preamble};
use crate::v2::reader::{Progress, ReadError, Reader};
use crate::v2::record::{Cipher, Kind, MAX_SLICE, OVERHEAD, Opened, Opener, Sealer};
use crate::v2::{Padding, Suite, Violation};

const LIMIT: usize = 1 << 20;

fn cipher() -> Cipher {
    Cipher {
        aead: std::sync::Arc::new(RustCrypto),
        suite: Suite::ChaCha20Poly1305,
        padding: Padding::None,
    }
}

fn secret() -> SharedKey {
    SharedKey::from_bytes(&[9; 32]).unwrap()
}

fn writer(open: Open) -> InstanceWriter {
    InstanceWriter::new(cipher(), &secret(), [1; 8], open)
}

const FIRST: Open = Open { instance: 0, first: 0, last: Last::None };

/// Returns an instance as it is written, without its preamble.
fn instance(open: Open, batches: &[Vec<Vec<u8>>], closes: bool) -> BytesMut {
    let mut writer = writer(open);
    let mut out = BytesMut::new();
    writer.write(&mut out, Instant::ZERO).finish();
    for batch in batches {
        let mut records = writer.write(&mut out, Instant::ZERO);
        for message in batch {
            records.put_message(message);
        }
        records.finish();
    }
    if closes {
        writer.close(&mut out, Instant::ZERO);
    }
    out.split_off(Preamble::LEN)
}

/// Reads bytes that arrive in pieces.
fn read(bytes: &[u8], cuts: &[usize], instance: u32, log: &mut Log) -> Result<Progress, ReadError> {
    let mut reader = Reader::new(cipher(), &secret(), instance);
    let mut received = log.received;
    let (mut buf, mut rest) = (BytesMut::new(), bytes);
    let mut cuts = cuts.iter().cycle();
    let result = loop {
        let len = cuts.next().map_or(rest.len(), |cut| (*cut).max(1)).min(rest.len());
        buf.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
        let progress = loop {
            match reader.read(&mut buf, LIMIT, &mut received, log) {
                Ok(Progress::Full) => log.room = log.room.map(|room| room + 1),
                other => break other,
            }
        };
        if rest.is_empty() || progress.is_err() {
            break progress;
        }
    };
    log.received = received;
    result
}

fn open_all(bytes: &mut BytesMut, opener: &mut Opener) -> Result<Vec<Opened>, Violation> {
    let mut all = Vec::new();
    while let Some(len) = Opener::record_len(bytes)? {
        let mut record = bytes.split_to(len);
        all.push(opener.open(&mut record)?);
    }
    Ok(all)
}

#[test]
fn many_small_messages_share_a_record() {
    let batch = vec![vec![vec![7; 64]; 200]];
    let mut bytes = instance(FIRST, &batch, false);
    assert_eq!(bytes.len(), 200 * 65 + 2 * OVERHEAD + 13);
    let records = open_all(&mut bytes, &mut Opener::new(cipher(), &secret())).unwrap();
    assert_eq!(records.len(), 2);
    // A record is full at 16 KiB, whatever the message.
    let batch = vec![vec![vec![7; 3 * MAX_SLICE]]];
    let mut bytes = instance(FIRST, &batch, false);
    let records = open_all(&mut bytes, &mut Opener::new(cipher(), &secret())).unwrap();
    assert_eq!(records[1].slice.len(), MAX_SLICE);
    assert_eq!(records.len(), 5);
}

/// One allocation serves all the small messages of a record, and a large one keeps only its own.
#[test]
fn small_messages_are_views_and_cost_what_they_occupy() {
    let bytes = instance(FIRST, &[vec![vec![7; 64]; 200], vec![vec![8; 100_000]]], true);
    let mut log = Log::default();
    assert_eq!(read(&bytes, &[], 0, &mut log), Ok(Progress::Closed));
    let views: Vec<_> = log.messages[..200].iter().map(|it| it.as_ptr().addr()).collect();
    assert!(views.windows(2).all(|it| it[1] - it[0] == 65));
    assert_eq!(log.messages[200].len(), 100_000);
    assert!(log.cost >= 200 * 65 + 100_000);
    assert!(log.cost <= 200 * 65 + 2 * 100_000);
}

/// Every slice has a length of the padding's, and what is read is what was written.
#[test]
fn padded_records_hide_lengths() {
    let multiple = |of| Padding::Multiple(NonZeroU16::new(of).unwrap());
    let sizes = [0, 1, 13, 14, 15, 250, 1000, 16_381, 16_382, 16_383, 16_384, 40_000];
    for padding in [multiple(1), multiple(16), multiple(1000), multiple(u16::MAX), Padding::Padme] {
        let secret = secret();
        let mut writer =
            InstanceWriter::new(Cipher { padding, ..cipher() }, &secret, [1; 8], FIRST);
        let mut out = BytesMut::new();
        for size in sizes {
            let mut records = writer.write(&mut out, Instant::ZERO);
            records.put_message(&vec![7; size]);
            records.finish();
        }
        writer.close(&mut out, Instant::ZERO);
        let mut rest = &out[Preamble::LEN..];
        let mut slices = Vec::new();
        while let Some(len) = Opener::record_len(rest).unwrap() {
            slices.push(len - OVERHEAD);
            rest = &rest[len..];
        }
        // Not those that open and close the instance.
        for slice in &slices[1..slices.len() - 1] {
            assert_eq!(padding.padded(*slice, MAX_SLICE), *slice, "{padding:?}");
            assert!(*slice <= MAX_SLICE);
        }
        let mut log = Log::default();
        assert_eq!(read(&out[Preamble::LEN..], &[], 0, &mut log), Ok(Progress::Closed));
        let lengths: Vec<usize> = log.messages.iter().map(|message| message.len()).collect();
        assert_eq!(lengths, sizes);
        assert!(log.messages.iter().flatten().all(|byte| *byte == 7));
    }
}

/// What a record holds of a message that began before goes straight into the message, whatever
/// surrounds it.
#[test]
fn a_message_is_gathered_over_records_of_every_form() {
    let message: Vec<u8> = (0..=250).cycle().take(40_000).collect();
    for (first, padding) in [(0, 0), (1, 0), (1, 1), (700, 300), (16_380, 5)] {
        let mut sealer = Sealer::new(cipher(), &secret());
        let mut out = BytesMut::new();
        let mut writer = sealer.write(&mut out, Instant::ZERO);
        writer.put_record(Kind::Open, &FIRST.emit());
        for _ in 0..2 {
            // 40,000 as a varint.
            writer.put_record(Kind::Data, &[&[0xc0, 0xb8, 0x02][..], &message[..first]].concat());
            writer.put_record(Kind::Data, b"");
            writer.put_padded(b"", padding);
            writer.put_padded(&message[first..first + 5000], padding);
            writer.put_record(Kind::Data, &message[first + 5000..first + 9000]);
            writer.put_padded(&message[first + 9000..first + 9001], padding);
            let rest = [&message[first + 9001..], &[2, 8, 8]].concat();
            for piece in rest.chunks(MAX_SLICE) {
                writer.put_record(Kind::Data, piece);
            }
        }
        writer.finish();
        let mut log = Log::default();
        assert_eq!(read(&out, &[], 0, &mut log), Ok(Progress::More { missing: 2 }));
        assert_eq!(log.messages, [&message[..], &[8, 8], &message, &[8, 8]]);
    }
}

#[test]
fn keys_change_when_they_must() {
    let mut sealer = Sealer::new(cipher(), &secret());
    let mut opener = Opener::new(cipher(), &secret());
    let mut now = Instant::ZERO;
    let mut seal = |counts: Option<(u64, u64)>, after: Duration, opener: &mut Opener| {
        now = now + after;
        if let Some((counter, blocks)) = counts {
            sealer.set_counts(counter, blocks);
            opener.set_counts(counter, blocks);
        }
        let mut out = BytesMut::new();
        let mut writer = sealer.write(&mut out, now);
        writer.put(b"text");
        writer.finish();
        let opened = opener.open(&mut out)?;
        Ok::<_, Violation>((out[2], opened.slice.len()))
    };
    let at_once = Duration::ZERO;
    assert_eq!(seal(None, at_once, &mut opener), Ok((0, 4)));
    assert_eq!(seal(Some((65_534, 1)), at_once, &mut opener), Ok((0, 4)));
    assert_eq!(seal(None, at_once, &mut opener), Ok((0x80, 4)), "the 65,536th");
    assert_eq!(seal(None, at_once, &mut opener), Ok((0, 4)), "with another key");
    assert_eq!(seal(Some((9, (1 << 26) - 1040 - 2)), at_once, &mut opener), Ok((0, 4)));
    assert_eq!(seal(None, at_once, &mut opener), Ok((0x80, 4)), "blocks");
    assert_eq!(seal(None, Duration::from_secs(599), &mut opener), Ok((0, 4)));
    assert_eq!(seal(None, Duration::from_secs(600), &mut opener), Ok((0x80, 4)), "time");
    assert_eq!(seal(None, Duration::from_secs(9999), &mut opener), Ok((0, 4)));
}

#[test]
fn a_peer_that_does_not_change_keys_is_cut_off() {
    for (counter, blocks) in [(65_535, 0), (7, 1 << 26)] {
        let mut sealer = Sealer::new(cipher(), &secret());
        let mut opener = Opener::new(cipher(), &secret());
        // The same nonce for both, but only the opener knows how much it has opened.
        if counter == 7 {
            sealer.set_counts(counter, 0);
        }
        let mut out = BytesMut::new();
        let mut writer = sealer.write(&mut out, Instant::ZERO);
        writer.put(b"x");
        writer.finish();
        opener.set_counts(if counter == 7 { 7 } else { 0 }, blocks);
        let expected = if counter == 7 { Err(Violation::EpochLimit) } else { Ok(()) };
        assert_eq!(opener.open(&mut out).map(drop), expected);
    }
}

#[test]
fn lengths_of_records() {
    for (len, expected) in [
        (0, Err(Violation::BadRecord)),
        (16, Err(Violation::BadRecord)),
        (17, Ok(Some(19))),
        (16_640, Ok(Some(16_642))),
        (16_641, Err(Violation::BadRecord)),
        (65_535, Err(Violation::BadRecord)),
    ] {
        assert_eq!(Opener::record_len(&u16::to_be_bytes(len)), expected);
    }
    assert_eq!(Opener::record_len(&[0]), Ok(None));
}

/// Writes records that no `InstanceWriter` would, and returns what the reader makes of them.
fn hostile(write: impl FnOnce(&mut crate::v2::record::Writer<'_>)) -> Result<Progress, ReadError> {
    let mut sealer = Sealer::new(cipher(), &secret());
    let mut out = BytesMut::new();
    let mut writer = sealer.write(&mut out, Instant::ZERO);
    write(&mut writer);
    writer.finish();
    read(&out, &[], 0, &mut Log::default())
}

#[test]
fn hostile_records() {
    let open = FIRST.emit();
    let ok = Ok(Progress::More { missing: 2 });
    let bad = Err(Violation::BadRecord.into());
    assert_eq!(hostile(|it| it.put_record(Kind::Open, &open)), ok);
    assert_eq!(hostile(|it| it.put_record(Kind::Data, b"")), bad, "no OPEN");
    assert_eq!(hostile(|it| it.put_record(Kind::Close, &[0, 0])), bad, "no OPEN");
    let behind = |kind, slice: &'static [u8]| {
        hostile(move |it| {
            it.put_record(Kind::Open, &open);
            it.put_record(kind, slice);
        })
    };
    assert_eq!(behind(Kind::Open, &[0; 13]), bad, "OPEN repeated");
    assert_eq!(behind(Kind::Close, &[0]), bad);
    assert_eq!(behind(Kind::Close, &[0, 0, 0]), bad);
    assert_eq!(behind(Kind::Close, &[0, 0]), Ok(Progress::Closed));
    assert_eq!(behind(Kind::Data, b""), ok);
    for length in [&[0x80, 0][..], &[0x80; 5], &[0xff, 0xff, 0xff, 0xff, 0x1f]] {
        assert_eq!(behind(Kind::Data, length.to_vec().leak()), Err(Violation::BadLength.into()));
    }
    assert_eq!(
        behind(Kind::Data, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        Err(ReadError::TooLarge { announced: u32::MAX.into(), limit: LIMIT })
    );
    for front in [&[5][..], &[0x85], &[5, 1, 2]] {
        let inside = hostile(|it| {
            it.put_record(Kind::Open, &open);
            it.put_record(Kind::Data, front);
            it.put_record(Kind::Close, &[0, 0]);
        });
        assert_eq!(inside, bad, "close inside a message");
    }
    for kind in [Kind::Open, Kind::Close] {
        let inside = hostile(|it| {
            it.put_record(Kind::Open, &open);
            it.put_record(Kind::Data, &[100]);
            it.put_record(kind, &[0; 2]);
        });
        assert_eq!(inside, bad, "{kind:?} where a message is gathered");
    }
    let behind_close = hostile(|it| {
        it.put_record(Kind::Open, &open);
        it.put_record(Kind::Close, &[0, 0]);
        it.put_record(Kind::Data, b"");
    });
    assert_eq!(behind_close, bad, "bytes behind the close record");
}

#[test]
fn numbers_tell_what_is_lost_and_what_is_repeated() {
    let mut log = Log::default();
    let messages = |from: u8, to: u8| vec![(from..to).map(|it| vec![it; 40]).collect()];
    let first = instance(FIRST, &messages(0, 5), false);
    assert!(read(&first, &[], 0, &mut log).is_ok());
    let second = Open { instance: 1, first: 3, last: Last::Broken };
    assert!(read(&instance(second, &messages(3, 7), false), &[], 1, &mut log).is_ok());
    assert_eq!((log.received, log.lost), (Received { next: 7, lost: 0 }, 0));
    let third = Open { instance: 2, first: 9, last: Last::Broken };
    assert!(read(&instance(third, &messages(9, 10), false), &[], 2, &mut log).is_ok());
    assert_eq!((log.received, log.lost), (Received { next: 10, lost: 2 }, 2));
    let numbers: Vec<u8> = log.messages.iter().map(|it| it[0]).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 9]);
}

fn batches() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let message = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..100),
        1 => (0..40_000_usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    prop::collection::vec(prop::collection::vec(message, 0..12), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        batches in batches(),
        cuts in prop::collection::vec(1..5000_usize, 0..4),
        closes: bool,
        room in prop::option::of(0..3_usize),
    ) {
        let bytes = instance(FIRST, &batches, closes);
        let mut log = Log { room, ..Log::default() };
        let progress = read(&bytes, &cuts, 0, &mut log).unwrap();
        let all: Vec<Vec<u8>> = batches.concat();
        prop_assert_eq!(progress == Progress::Closed, closes);
        prop_assert_eq!(log.received.next, u64::try_from(all.len()).unwrap());
        prop_assert!(log.messages.iter().eq(all.iter()));
        prop_assert!(log.cost >= all.iter().map(Vec::len).sum());
    }

    #[test]
    fn what_is_altered_does_not_open(at: prop::sample::Index, bit in 0..8_u32, batches in batches()) {
        let bytes = instance(FIRST, &batches, true);
        let mut altered = bytes.to_vec();
        let at = at.index(altered.len());
        altered[at] ^= 1 << bit;
        let mut log = Log::default();
        let result = read(&altered, &[], 0, &mut log);
        // A length that was altered may announce more than there is.
        prop_assert!(!matches!(result, Ok(Progress::Closed)));
        // What was delivered before is what was written.
        prop_assert!(log.messages.iter().zip(batches.concat().iter()).all(|(a, b)| a == b));
    }

    #[test]
    fn anything_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        _ = read(&bytes, &[], 0, &mut Log::default());
    }
}
