//! The frames of requests and responses, each a message of the stream.
//!
//! ```text
//! kind (1 byte) ‖ id (8 bytes, big-endian) ‖ rest
//! ```
//!
//! | kind | from | rest |
//! |---|---|---|
//! | 1 request | requester | time for which it waits (4 bytes, big-endian, ms) ‖ body |
//! | 2 response | responder | body |
//! | 3 failed | responder | text, UTF-8, at most 1 KiB |
//! | 4 busy | responder | |
//! | 5 unanswered | responder | |
//! | 6 cancel | requester | |
//!
//! The requester chooses the id. Bytes behind the rest of kinds 4 to 6, and frames of other kinds,
//! are left for later versions and ignored.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A frame of a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) id: u64,
    pub(super) content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Request { patience: Duration, body: Bytes },
    Response(Bytes),
    Failed(String),
    Busy,
    Unanswered,
    Cancel,
}

impl Frame {
    /// Parses a frame. Returns `None` for what this version does not know.
    pub(super) fn parse(mut message: Bytes) -> Option<Self> {
        if message.len() < HEADER {
            return None;
        }
        let kind = message.get_u8();
        let id = message.get_u64();
        let content = match kind {
            REQUEST if message.len() >= 4 => {
                let patience = Duration::from_millis(message.get_u32().into());
                Content::Request { patience, body: message }
            }
            RESPONSE => Content::Response(message),
            FAILED => {
                let text = message.get(..message.len().min(MAX_TEXT))?;
                Content::Failed(String::from_utf8_lossy(text).into_owned())
            }
            BUSY => Content::Busy,
            UNANSWERED => Content::Unanswered,
            CANCEL => Content::Cancel,
            _ => return None,
        };
        Some(Self { id, content })
    }

    pub(super) fn emit(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        out.put_u8(match self.content {
            Content::Request { .. } => REQUEST,
            Content::Response(_) => RESPONSE,
            Content::Failed(_) => FAILED,
            Content::Busy => BUSY,
            Content::Unanswered => UNANSWERED,
            Content::Cancel => CANCEL,
        });
        out.put_u64(self.id);
        match &self.content {
            Content::Request { patience, body } => {
                out.put_u32(u32::try_from(patience.as_millis()).unwrap_or(u32::MAX));
                out.put_slice(body);
            }
            Content::Response(body) => out.put_slice(body),
            Content::Failed(text) => out.put_slice(cut(text).as_bytes()),
            Content::Busy | Content::Unanswered | Content::Cancel => {}
        }
        out.freeze()
    }

    fn encoded_len(&self) -> usize {
        let rest = match &self.content {
            Content::Request { body, .. } => 4 + body.len(),
            Content::Response(body) => body.len(),
            Content::Failed(text) => cut(text).len(),
            Content::Busy | Content::Unanswered | Content::Cancel => 0,
        };
        HEADER + rest
    }
}

/// Returns as much of a text as a frame may hold.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

const HEADER: usize = 9;
const MAX_TEXT: usize = 1024;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const FAILED: u8 = 3;
const BUSY: u8 = 4;
const UNANSWERED: u8 = 5;
const CANCEL: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_content_comes_back() {
        for content in [
            Content::Request { patience: Duration::from_millis(1500), body: "body".into() },
            Content::Request { patience: Duration::ZERO, body: Bytes::new() },
            Content::Response("response".into()),
            Content::Failed("what went wrong".to_owned()),
            Content::Busy,
            Content::Unanswered,
            Content::Cancel,
        ] {
            let frame = Frame { id: u64::MAX - 7, content };
            let bytes = frame.emit();
            assert_eq!(bytes.len(), frame.encoded_len());
            assert_eq!(Frame::parse(bytes), Some(frame));
        }
    }

    #[test]
    fn anything_else_is_none() {
        for length in 0..HEADER {
            assert_eq!(Frame::parse(vec![1; length].into()), None);
        }
        assert_eq!(Frame::parse(vec![1; HEADER + 3].into()), None, "a request without its time");
        for kind in [0, 7, 255] {
            assert_eq!(Frame::parse(vec![kind; 20].into()), None);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let frame = Frame { id: 1, content: Content::Failed("é".repeat(1000)) };
        let Some(Frame { content: Content::Failed(text), .. }) = Frame::parse(frame.emit()) else {
            panic!()
        };
        assert_eq!(text, "é".repeat(512));
        let text = format!("a{}", "é".repeat(1000));
        let frame = Frame { id: 1, content: Content::Failed(text) };
        assert_eq!(frame.emit().len(), HEADER + 1023);
    }
}
