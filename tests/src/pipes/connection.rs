//! What the loop of a connection wants of a pipe.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use glueberry_tokio::adapter::{Connection, ConnectionEvent};
use glueberry_tokio::proto::{Direction, OpenError, Origin, ProtocolId, Session, SubstreamId, mux};

use super::pipe::{Pipe, Shared, State, lock};
use super::substream::PipeSubstream;
use super::tls::Secured;

/// One end of a pipe.
pub(super) struct PipeConnection {
    pipe: Shared,
    /// Substreams to open, once the peer has said hello.
    opening: VecDeque<SubstreamId>,
    is_lost_reported: bool,
}

impl PipeConnection {
    pub(super) fn new(secured: Secured, origin: &Origin, config: mux::Config) -> Self {
        let side = match origin {
            Origin::Dialled(_) => Direction::Outbound,
            Origin::Accepted => Direction::Inbound,
        };
        let pipe = Arc::new(Mutex::new(Pipe::new(secured, side, config)));
        Self { pipe, opening: VecDeque::new(), is_lost_reported: false }
    }
}

impl Connection for PipeConnection {
    type Substream = PipeSubstream;

    // It negotiates nothing: the core writes the name of each stream to its front.
    fn open(&mut self, substream: SubstreamId, _: Vec<ProtocolId>) {
        self.opening.push_back(substream);
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        _: &Session,
    ) -> Poll<ConnectionEvent<PipeSubstream>> {
        let (protocol, mut pipe) = (None, lock(&self.pipe));
        pipe.poll(cx);
        if let Some(id) = self.opening.pop_front() {
            match pipe.mux.open() {
                Ok(opened) => {
                    pipe.substreams.insert(opened, State::default());
                    let substream = PipeSubstream::new(&self.pipe, opened);
                    return Poll::Ready(ConnectionEvent::Opened { id, protocol, substream });
                }
                Err(mux::OpenError::NotReady) => self.opening.push_front(id),
                Err(_) => {
                    let error = OpenError::Failed;
                    return Poll::Ready(ConnectionEvent::OpenFailed { id, error });
                }
            }
        }
        if let Some(id) = pipe.accepted.pop_front() {
            let substream = PipeSubstream::new(&self.pipe, id);
            return Poll::Ready(ConnectionEvent::Accepted { protocol, substream });
        }
        match pipe.lost() {
            Some(why) if !std::mem::replace(&mut self.is_lost_reported, true) => {
                Poll::Ready(ConnectionEvent::Lost(why))
            }
            _ => Poll::Pending,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, code: u64) -> Poll<()> {
        let mut pipe = lock(&self.pipe);
        if pipe.mux.closed().is_none() {
            let now = pipe.now();
            pipe.mux.close(now, u32::try_from(code).unwrap_or(u32::MAX));
        }
        pipe.poll(cx);
        if pipe.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }
}
