//! The key schedule (WIRE.md §7.3): every secret is derived by one function, and wiped when what
//! follows from it is derived.

use hkdf::Hkdf;
use sha2::Sha256;

use super::Role;
use crate::crypto::{SharedKey, hmac, on_wiped_stack};
use crate::prelude::*;
use crate::wire::StreamName;

/// `L(key, label, context, n)`, where n is the length of `out` and the context is the parts, one
/// behind the other.
pub(crate) fn expand(key: &[u8; 32], label: &str, context: &[&[u8]], out: &mut [u8]) {
    on_wiped_stack(|| expand_unwiped(key, label, context, out));
}

/// Does the same, and leaves the stack to the caller.
fn expand_unwiped(key: &[u8; 32], label: &str, context: &[&[u8]], out: &mut [u8]) {
    let len = u16::try_from(out.len()).expect("no secret is that long").to_be_bytes();
    let label_len = prefix(label.len());
    let context_len = prefix(context.iter().map(|part| part.len()).sum());
    let mut info: Vec<&[u8]> = vec![&len, &PROTOCOL_LEN, PROTOCOL, &label_len, label.as_bytes()];
    info.push(&context_len);
    info.extend_from_slice(context);
    Hkdf::<Sha256>::from_prk(key)
        .expect("32 bytes are a full-length pseudorandom key for SHA-256")
        .expand_multi_info(&info, out)
        .expect("no secret is longer than 255 hashes");
}

/// `L(key, label, context, 32)`.
pub(crate) fn derive(key: &[u8; 32], label: &str, context: &[&[u8]]) -> SharedKey {
    SharedKey::filled(|out| expand_unwiped(key, label, context, out))
}

/// Returns the length prefix of `lp`.
pub(crate) fn prefix(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("nothing that is hashed is that long").to_be_bytes()
}

/// The secret of a session, from which all others come; wiped at Established.
#[derive(Debug)]
pub(crate) struct Master {
    secret: SharedKey,
    th: [u8; 32],
}

impl Master {
    /// Extracts it from the results of the key exchange, with the hash of the transcript.
    pub(crate) fn extract(th: [u8; 32], results: &[&[u8]]) -> Self {
        Self { secret: hmac(&th, results), th }
    }

    /// Returns the session's id.
    pub(crate) fn session_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        expand(self.secret.as_bytes(), "session id", &[&self.th], &mut id);
        id
    }

    /// Returns what a side proves with that it has derived the same.
    pub(crate) fn confirm_key(&self, of: Role) -> SharedKey {
        let label = match of {
            Role::Initiator => "confirm I",
            Role::Responder => "confirm R",
        };
        self.derive(label, &[])
    }

    /// Returns the secret for the application.
    pub(crate) fn exporter(&self) -> SharedKey {
        self.derive("exporter", &[])
    }

    /// Returns the first secret of what a side writes, sealed, on the handshake substream.
    pub(crate) fn control(&self, from: Role) -> SharedKey {
        self.derive("control", &[&[from.direction()]])
    }

    /// Returns the root of one direction of a stream.
    pub(crate) fn stream(&self, from: Role, name: &StreamName) -> StreamRoot {
        let (len, name) = (prefix(name.as_str().len()), name.as_str().as_bytes());
        StreamRoot(self.derive("stream", &[&[from.direction()], &len, name]))
    }

    #[cfg(test)]
    pub(crate) const fn secret(&self) -> &SharedKey {
        &self.secret
    }

    fn derive(&self, label: &str, context: &[&[u8]]) -> SharedKey {
        let mut context = context.to_vec();
        context.push(&self.th);
        derive(self.secret.as_bytes(), label, &context)
    }
}

/// The secret from which those of the next instances of one direction of a stream come.
#[derive(Debug)]
pub(crate) struct StreamRoot(SharedKey);

impl StreamRoot {
    /// Derives the secret of the next instance and moves on: the same can't be derived again.
    pub(crate) fn next_instance(&mut self) -> SharedKey {
        let instance = derive(self.0.as_bytes(), "inst", &[]);
        self.0 = derive(self.0.as_bytes(), "next", &[]);
        instance
    }

    #[cfg(test)]
    pub(crate) const fn secret(&self) -> &SharedKey {
        &self.0
    }

    #[cfg(test)]
    pub(crate) const fn from_secret(secret: SharedKey) -> Self {
        Self(secret)
    }
}

const PROTOCOL: &[u8] = b"glueberry/2";
const PROTOCOL_LEN: [u8; 4] = [0, 0, 0, 11];
