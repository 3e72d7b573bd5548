//! Frames of the control channel, and how many a peer may send (WIRE.md §6.2, §8.7, §9.1).

use crate::prelude::*;
use crate::time::Instant;
use crate::wire::StreamName;

use super::violation::Violation;

/// The authenticated end of a session, with what arrived of each stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: u16,
    /// In ascending order of the names.
    pub(crate) entries: Vec<CloseEntry>,
}

/// What a side has sent and received on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseEntry {
    pub(crate) name: StreamName,
    /// How many numbers it has given to messages of its own.
    pub(crate) sent: u64,
    /// Of the peer's messages.
    pub(crate) received: Received,
}

/// What arrived of one direction of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The number behind the highest that was received or given up.
    pub(crate) next: u64,
    /// How many below `next` never arrived.
    pub(crate) lost: u64,
}

impl Close {
    /// Returns the body of the frame.
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut out = self.code.to_be_bytes().to_vec();
        let count = u16::try_from(self.entries.len()).expect("a session has few streams");
        out.extend_from_slice(&count.to_be_bytes());
        for entry in &self.entries {
            let name = entry.name.as_str().as_bytes();
            out.push(u8::try_from(name.len()).expect("names are short"));
            out.extend_from_slice(name);
            for number in [entry.sent, entry.received.next, entry.received.lost] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Violation> {
        let mut rest = body;
        let code = u16::from_be_bytes(take(&mut rest)?);
        let count = u16::from_be_bytes(take(&mut rest)?);
        let mut entries: Vec<CloseEntry> = Vec::new();
        for _ in 0..count {
            let [len] = take(&mut rest)?;
            let (name, behind) = rest.split_at_checked(len.into()).ok_or(Violation::BadFrame)?;
            rest = behind;
            let name = parse_name(name)?;
            if entries.last().is_some_and(|last| last.name >= name) {
                return Err(Violation::BadFrame);
            }
            let [sent, next, lost] =
                [take(&mut rest)?, take(&mut rest)?, take(&mut rest)?].map(u64::from_be_bytes);
            entries.push(CloseEntry { name, sent, received: Received { next, lost } });
        }
        match rest.is_empty() {
            true => Ok(Self { code, entries }),
            false => Err(Violation::BadFrame),
        }
    }
}

/// An instance of a stream broke, and is not waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Abandon {
    pub(crate) instance: u32,
    pub(crate) name: StreamName,
}

impl Abandon {
    /// Returns the body of the frame.
    pub(crate) fn emit(&self) -> Vec<u8> {
        [&self.instance.to_be_bytes(), self.name.as_str().as_bytes()].concat()
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Violation> {
        let mut rest = body;
        let instance = u32::from_be_bytes(take(&mut rest)?);
        Ok(Self { instance, name: parse_name(rest)? })
    }
}

/// Returns the name, unless it breaks v2's rules.
fn parse_name(name: &[u8]) -> Result<StreamName, Violation> {
    let name = core::str::from_utf8(name).map_err(|_| Violation::BadFrame)?;
    StreamName::new(name).map_err(|_| Violation::BadFrame)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Violation> {
    let (first, behind) = rest.split_first_chunk().ok_or(Violation::BadFrame)?;
    *rest = behind;
    Ok(*first)
}

/// How many control frames, or changes of keys, may still come: some at once, and some more in every second.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// In millionths.
    tokens: u64,
    capacity: u64,
    filled_at: Instant,
}

impl Bucket {
    /// What a peer may send at once.
    pub(crate) const OF_PEER: u64 = 64;

    /// What a peer may send.
    pub(crate) const fn of_peer(now: Instant) -> Self {
        Self::new(Self::OF_PEER, now)
    }

    /// What this side may send, so that no second has more of them than 16.
    pub(crate) const fn of_this_side(now: Instant) -> Self {
        Self::new(1, now)
    }

    const fn new(capacity: u64, now: Instant) -> Self {
        let capacity = capacity * TOKEN;
        Self { tokens: capacity, capacity, filled_at: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.as_micros().saturating_sub(self.filled_at.as_micros());
        self.filled_at = self.filled_at.max(now);
        let refill = passed.saturating_mul(PER_SECOND);
        self.tokens = self.tokens.saturating_add(refill).min(self.capacity);
        let has_one = self.tokens >= TOKEN;
        if has_one {
            self.tokens -= TOKEN;
        }
        has_one
    }

    /// Returns when there is a token.
    pub(crate) fn ready_at(&self) -> Instant {
        let missing = TOKEN.saturating_sub(self.tokens);
        let micros = missing.div_ceil(PER_SECOND);
        self.filled_at + core::time::Duration::from_micros(micros)
    }
}

const PER_SECOND: u64 = 16;
/// A microsecond brings as many millionths as there are tokens in a second.
const TOKEN: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> StreamName {
        StreamName::new(name).unwrap()
    }

    fn entry(stream: &str, sent: u64, next: u64, lost: u64) -> CloseEntry {
        CloseEntry { name: name(stream), sent, received: Received { next, lost } }
    }

    #[test]
    fn close_is_exact() {
        let close = Close { code: 3, entries: vec![entry("a", 1, 2, 3), entry("b", 4, 5, 6)] };
        let body = close.emit();
        assert_eq!(Close::parse(&body), Ok(close));
        for cut in 0..body.len() {
            assert_eq!(Close::parse(&body[..cut]), Err(Violation::BadFrame));
        }
        let longer = [&body[..], &[0]].concat();
        assert_eq!(Close::parse(&longer), Err(Violation::BadFrame));
        for names in [["b", "a"], ["a", "a"]] {
            let entries = names.map(|name| entry(name, 0, 0, 0)).to_vec();
            let body = Close { code: 0, entries }.emit();
            assert_eq!(Close::parse(&body), Err(Violation::BadFrame), "{names:?}");
        }
        for bad in [&b""[..], b"handshake", b"a/b", b"\xff", &[b'a'; 65]] {
            let len = u8::try_from(bad.len()).unwrap();
            let body = [&[0, 0, 0, 1, len], bad, &[0; 24]].concat();
            assert_eq!(Close::parse(&body), Err(Violation::BadFrame), "{bad:?}");
        }
    }

    #[test]
    fn abandon_has_a_name() {
        let abandon = Abandon { instance: 7, name: name("chat") };
        assert_eq!(Abandon::parse(&abandon.emit()), Ok(abandon));
        for bad in [&b""[..], b"\0\0\0", b"\0\0\0\x07", b"\0\0\0\x07a b"] {
            assert_eq!(Abandon::parse(bad), Err(Violation::BadFrame));
        }
    }

    #[test]
    fn the_bucket_holds_64_and_16_come_in_a_second() {
        let mut now = Instant::ZERO;
        let mut bucket = Bucket::of_peer(now);
        assert!((0..64).all(|_| bucket.take(now)));
        assert!(!bucket.take(now));
        now = now + Duration::from_secs(1);
        assert!((0..16).all(|_| bucket.take(now)));
        assert!(!bucket.take(now));
        now = now + Duration::from_secs(1000);
        assert!((0..64).all(|_| bucket.take(now)));
        assert!(!bucket.take(now));
    }

    #[test]
    fn this_side_sends_at_most_16_in_any_second() {
        let mut now = Instant::ZERO;
        let mut bucket = Bucket::of_this_side(now);
        let mut sent = Vec::new();
        while sent.len() < 100 {
            if bucket.take(now) {
                sent.push(now);
            } else {
                assert!(bucket.ready_at() > now);
                now = bucket.ready_at();
            }
        }
        // The seventeenth is a second behind the first.
        assert!(sent.windows(17).all(|it| it[16].duration_since(it[0]) >= Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn anything_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(close) = Close::parse(&bytes) {
                prop_assert_eq!(close.emit(), &bytes[..]);
            }
            if let Ok(abandon) = Abandon::parse(&bytes) {
                prop_assert_eq!(abandon.emit(), &bytes[..]);
            }
        }
    }
}
