//! The context of a trace, as an application may send it to a peer.

#[cfg(feature = "opentelemetry")]
mod spans;

use std::fmt;
use std::str::FromStr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// A place in a trace: what W3C's Trace Context carries from one program to another.
///
/// A node never sends it by itself. An application that wants one trace over several nodes
/// [injects](Self::inject) the context into the messages of a stream, and [extracts](Self::extract) it
/// where they arrive. Both sides must do so, for every message of that stream. It works for the bodies of
/// requests and responses in the same way. With the feature `opentelemetry`, `TraceContext::of` takes
/// the context of a `tracing` span, and `TraceContext::continue_in` makes a span of the receiver its
/// child; the example `traces` shows all of it.
///
/// A message with a context has these parts:
///
/// | bytes | what |
/// |---|---|
/// | 1 | the version, 0 |
/// | 1 | the length of `traceparent` |
/// | that many | `traceparent` |
/// | 2 | the length of `tracestate`, big-endian |
/// | that many | `tracestate` |
/// | the rest | the message |
///
/// `traceparent` and `tracestate` are the values of the headers of these names in W3C's
/// [Trace Context](https://www.w3.org/TR/trace-context/). Without a context, both are empty.
///
/// A context that was received is what the peer has written: a peer that you do not trust could have your
/// collector record what it likes.
///
/// ```
/// use glueberry_tokio::TraceContext;
///
/// let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context: TraceContext = parent.parse()?;
/// let sent = TraceContext::inject(Some(&context), "hello");
/// let (received, message) = TraceContext::extract(sent)?;
/// assert_eq!((received, &message[..]), (Some(context), &b"hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
    state: String,
}

/// Why a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "not a traceparent: 00-<32 hexadecimal digits>-<16>-<2>, in lower case, and no id of zeros"
)]
#[non_exhaustive]
pub struct TraceParentError;

/// Why no context could be extracted from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// It is shorter than its lengths say.
    #[error("message ends within its trace context")]
    Short,
    /// It is of a later version, or no context was injected.
    #[error("unknown version {0} of an injected trace context")]
    Version(u8),
}

impl TraceContext {
    /// Returns a context, or `None` if an id is zero: then there is no trace.
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8], flags: u8) -> Option<Self> {
        let is_valid = trace_id != [0; 16] && parent_id != [0; 8];
        is_valid.then(|| Self { trace_id, parent_id, flags, state: String::new() })
    }

    /// Adds what systems for tracing say to each other, the value of the header `tracestate`. One of
    /// more than 512 bytes, or with other characters than printable ASCII, is left out.
    #[must_use]
    pub fn with_state(mut self, state: &str) -> Self {
        let is_printable = state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        self.state.clear();
        if is_printable && state.len() <= MAX_STATE {
            self.state.push_str(state);
        }
        self
    }

    /// Returns the id of the trace.
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// Returns the id of the span that what follows is part of.
    pub const fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Returns the flags. Bit 0: the trace is sampled.
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Returns the value of `tracestate`; empty if there is none.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Returns a message with a context before it, or with the sign that there is none. The message is
    /// copied.
    pub fn inject(context: Option<&Self>, message: impl AsRef<[u8]>) -> Bytes {
        let message = message.as_ref();
        let parent = context.map(ToString::to_string).unwrap_or_default();
        let state = context.map_or("", Self::state);
        let mut out = BytesMut::with_capacity(4 + parent.len() + state.len() + message.len());
        out.put_u8(VERSION);
        out.put_u8(u8::try_from(parent.len()).unwrap_or_default());
        out.put_slice(parent.as_bytes());
        out.put_u16(u16::try_from(state.len()).unwrap_or_default());
        out.put_slice(state.as_bytes());
        out.put_slice(message);
        out.freeze()
    }

    /// Returns the context of a message, and the message without it, which is not copied. The context is
    /// `None` if the sender has none, or if it is not a valid one: no message is lost by that.
    ///
    /// # Errors
    ///
    /// If no context was injected, or by a later version of this.
    pub fn extract(mut message: Bytes) -> Result<(Option<Self>, Bytes), ExtractError> {
        let short = |_| ExtractError::Short;
        match message.try_get_u8().map_err(short)? {
            VERSION => {}
            version => return Err(ExtractError::Version(version)),
        }
        let length = message.try_get_u8().map_err(short)?;
        let parent = take(&mut message, length.into())?;
        let length = message.try_get_u16().map_err(short)?;
        let state = take(&mut message, length.into())?;
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let context = text(&parent).parse::<Self>().ok();
        Ok((context.map(|it| it.with_state(text(&state))), message))
    }
}

fn take(message: &mut Bytes, length: usize) -> Result<Bytes, ExtractError> {
    match length <= message.len() {
        true => Ok(message.split_to(length)),
        false => Err(ExtractError::Short),
    }
}

/// The value of the header `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, parent) =
            (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.parent_id));
        write!(f, "00-{trace:032x}-{parent:016x}-{:02x}", self.flags)
    }
}

/// Reads the value of a header `traceparent`. Of a later version, what this one knows of it.
impl FromStr for TraceContext {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let mut parts = text.split('-');
        let version: [u8; 1] = hex(parts.next())?;
        let (trace_id, parent_id) = (hex(parts.next())?, hex(parts.next())?);
        let [flags] = hex(parts.next())?;
        let has_more = parts.next().is_some();
        if version == [0xff] || (version == [0] && has_more) {
            return Err(TraceParentError);
        }
        Self::new(trace_id, parent_id, flags).ok_or(TraceParentError)
    }
}

/// Reads as many bytes in lower-case hexadecimal.
fn hex<const N: usize>(text: Option<&str>) -> Result<[u8; N], TraceParentError> {
    let text = text.unwrap_or_default().as_bytes();
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return Err(TraceParentError);
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let &[high, low] = pair else { return Err(TraceParentError) };
        let (Some(high), Some(low)) = (digit(high), digit(low)) else {
            return Err(TraceParentError);
        };
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

const VERSION: u8 = 0;
/// What W3C asks of everybody to pass on, section 3.3.1.5.
const MAX_STATE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_comes_back_with_its_message() {
        let context: TraceContext = PARENT.parse().unwrap();
        assert_eq!(context.to_string(), PARENT);
        assert_eq!(context.flags(), 1);
        let context = context.with_state("vendor=a,other=b");
        let sent = TraceContext::inject(Some(&context), "message");
        let layout = [&[0, 55][..], PARENT.as_bytes(), &[0, 16], b"vendor=a,other=b", b"message"];
        assert_eq!(sent, layout.concat());
        assert_eq!(TraceContext::extract(sent).unwrap(), (Some(context), "message".into()));
        let bare = TraceContext::inject(None, "message");
        assert_eq!(bare, b"\0\0\0\0message"[..]);
        assert_eq!(TraceContext::extract(bare).unwrap(), (None, "message".into()));
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let zeros = PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        let no_span = PARENT.replace("b7ad6b7169203331", &"0".repeat(16));
        let loud = PARENT.to_uppercase();
        let more = format!("{PARENT}-00");
        let no_version = PARENT.replacen("00", "ff", 1);
        let cut = &PARENT[..54];
        for text in ["", "-", "00---", &zeros, &no_span, &loud, &more, &no_version, cut, "é"] {
            assert_eq!(text.parse::<TraceContext>(), Err(TraceParentError), "{text}");
        }
        let later: TraceContext = more.replacen("00", "cc", 1).parse().unwrap();
        assert_eq!(later.to_string(), PARENT, "what this version knows of a later one");
    }

    #[test]
    fn a_bad_context_costs_no_message_and_a_cut_one_is_an_error() {
        let context: TraceContext = PARENT.parse().unwrap();
        let sent = TraceContext::inject(Some(&context.clone().with_state("a=b")), "");
        for length in 0..sent.len() {
            let cut = sent.slice(..length);
            assert_eq!(TraceContext::extract(cut), Err(ExtractError::Short), "{length}");
        }
        let mut bad = sent.to_vec();
        bad[5] = b'X';
        assert_eq!(TraceContext::extract(bad.clone().into()).unwrap(), (None, Bytes::new()));
        bad[0] = 1;
        assert_eq!(TraceContext::extract(bad.into()), Err(ExtractError::Version(1)));
        for state in [&"a".repeat(513), "a\nb", "é"] {
            assert_eq!(context.clone().with_state(state).state(), "");
        }
        let long = context.with_state(&"a".repeat(512));
        let (received, _) = TraceContext::extract(TraceContext::inject(Some(&long), "")).unwrap();
        assert_eq!(received, Some(long));
    }
}
