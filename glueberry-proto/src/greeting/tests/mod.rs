//! One greeting against messages, two against each other, and against Go applications.

mod go;
mod pair;
mod paths;
mod rules;

use super::*;
use crate::crypto::Identity;

const OURS: ProtocolVersion = ProtocolVersion::CURRENT;

/// `ME` is the greeting under test, `PEER` the other side, `STRANGER` neither.
const ME: u8 = 1;
const PEER: u8 = 2;
const STRANGER: u8 = 3;

fn key(who: u8) -> PublicKey {
    Identity::from_seed(&[who; 32]).public_key()
}

/// The bytes of PubKey, put together here and not by the code under test.
fn pub_key_of(who: u8) -> Vec<u8> {
    [&[2], &key(who).as_bytes()[..]].concat()
}

fn config(version: Option<&str>) -> GreetingConfig {
    GreetingConfig {
        version: version.map(|text| text.parse().unwrap()),
        retry_after: Duration::from_secs(10),
        max_retries: 2,
    }
}

fn greeting(version: Option<&str>) -> Greeting {
    Greeting::new(Instant::ZERO, key(ME), key(PEER), config(version)).unwrap()
}

fn seconds(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn sent(message: &[u8]) -> Output {
    Output::Send(Bytes::copy_from_slice(message))
}

impl Greeting {
    fn drain(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.poll_output()).collect()
    }

    /// Handles a message at the latest time, and returns the outputs.
    fn receives(&mut self, message: &[u8]) -> Vec<Output> {
        self.handle_message(self.now, message);
        self.drain()
    }
}
