//! Keys, records and frames, written from the description of the protocol.

use std::io;

use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use curve25519_dalek::edwards::CompressedEdwardsY;
use hkdf::Hkdf;
use libp2p::Stream;
use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::identity::ed25519;
use sha2::{Digest, Sha256, Sha512};

/// What the peer and this side share.
pub(crate) struct Key(ChaCha20Poly1305);

impl Key {
    pub(crate) fn agree(own: &ed25519::Keypair, peer: &[u8; 32]) -> Self {
        let point = CompressedEdwardsY(*peer).decompress().expect("a point").to_montgomery();
        let mut scalar = [0; 32];
        scalar.copy_from_slice(&Sha512::digest(own.secret().as_ref())[..32]);
        let shared = point.mul_clamped(scalar);
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, shared.as_bytes())
            .expand(b"glueberry-v1-stream-key", &mut key)
            .expect("short enough");
        Self(ChaCha20Poly1305::new(&key.into()))
    }

    pub(crate) fn seal(&self, nonce: [u8; 12], message: &[u8]) -> Vec<u8> {
        let sealed = self.0.encrypt(&Nonce::from(nonce), message).expect("short enough");
        [&nonce[..], &sealed].concat()
    }

    pub(crate) fn open(&self, record: &[u8]) -> Vec<u8> {
        let (nonce, sealed) = record.split_at(12);
        let nonce: [u8; 12] = nonce.try_into().expect("12 bytes");
        self.0.decrypt(&Nonce::from(nonce), sealed).expect("authentic")
    }
}

/// How frames are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// v1: a length of four bytes.
    Fixed,
    /// v1-go: a varint around a varint.
    DoubleVarint,
}

impl Framing {
    pub(crate) async fn write(self, stream: &mut Stream, payload: &[u8]) -> io::Result<()> {
        let frame = match self {
            Self::Fixed => {
                let len = u32::try_from(payload.len()).expect("short enough");
                [&len.to_be_bytes()[..], payload].concat()
            }
            Self::DoubleVarint => {
                let inner = [&varint(payload.len())[..], payload].concat();
                [&varint(inner.len())[..], &inner].concat()
            }
        };
        stream.write_all(&frame).await?;
        stream.flush().await
    }

    pub(crate) async fn read(self, stream: &mut Stream) -> io::Result<Vec<u8>> {
        match self {
            Self::Fixed => {
                let mut len = [0; 4];
                stream.read_exact(&mut len).await?;
                exactly(stream, usize::try_from(u32::from_be_bytes(len)).expect("32 bits")).await
            }
            Self::DoubleVarint => {
                let len = read_varint(stream).await?;
                let mut inner = exactly(stream, len).await?;
                let header = inner.iter().take_while(|byte| **byte >= 128).count() + 1;
                Ok(inner.split_off(header))
            }
        }
    }
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number % 128).expect("7 bits");
        number /= 128;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 128);
    }
}

async fn read_varint(stream: &mut Stream) -> io::Result<usize> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        number |= usize::from(byte[0] & 127) << shift;
        shift += 7;
        if byte[0] < 128 {
            return Ok(number);
        }
    }
}

async fn exactly(stream: &mut Stream, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
