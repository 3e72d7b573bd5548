//! What the application does in a session's handshake.

use std::collections::VecDeque;

use glueberry_proto::{HandshakeError, Instant, SendError};

use super::{SessionDriver, Stage};
use crate::command::{HandshakeCommand, HandshakeRequest, NodeCommand, Returned, SessionCommand};
use crate::error::{Error, ErrorCode};
use crate::message::HANDSHAKE;

impl SessionDriver {
    /// Does a handshake command, and answers it by way of the node's task, so that the caller finds
    /// the effect published. One that only another session of the peer may do is returned.
    pub(super) fn handshake(&mut self, now: Instant, request: HandshakeRequest) {
        let result = self.attempt(now, &request);
        let is_finalized = matches!(request.command, HandshakeCommand::Finalize(_));
        if result.is_ok() && is_finalized && self.stage == Stage::Handshake {
            self.finalizing = Some(request);
            return;
        }
        self.to_node.push(match result {
            Err(NotDone::NotCurrent { is_over, error }) => self.returned(request, is_over, error),
            Ok(()) => NodeCommand::HandshakeDone(request.command, Ok(())),
            Err(NotDone::Refused(error)) => NodeCommand::HandshakeDone(request.command, Err(error)),
        });
    }

    fn attempt(&mut self, now: Instant, request: &HandshakeRequest) -> Result<(), NotDone> {
        match &request.command {
            HandshakeCommand::Send(message, _) => {
                self.session.send_handshake(now, message.clone())?;
                self.handshake.tally.sent(message.len());
                self.telemetry().metrics.message_sent(HANDSHAKE, message.len());
            }
            HandshakeCommand::Prepare(key, names, _) => {
                let result = self.session.prepare_streams(now, *key, names);
                if matches!(result, Err(HandshakeError::Agreement(_))) {
                    self.telemetry().metrics.encryption_error();
                }
                result?;
                self.prepared(names);
            }
            HandshakeCommand::Finalize(_) => {
                match self.session.finalize_handshake(now) {
                    // Another session had done so before it yielded to this one, which got its consent.
                    Err(HandshakeError::AlreadyFinalized) if request.tries > 1 => {}
                    result => result?,
                }
                if self.session.is_established() {
                    self.established();
                }
            }
            HandshakeCommand::Reject(reason) => self.session.reject_handshake(now, reason),
        }
        Ok(())
    }

    pub(super) fn returned(
        &self,
        mut request: HandshakeRequest,
        is_over: bool,
        error: Error,
    ) -> NodeCommand {
        request.returned = Some(Box::new(Returned { from: self.session.id(), is_over, error }));
        NodeCommand::Handshake(request)
    }

    /// Returns the commands that came too late.
    pub(super) fn return_all(&mut self, commands: VecDeque<SessionCommand>) {
        for command in commands {
            if let SessionCommand::Handshake(request) = command {
                let error = Error::new(ErrorCode::NotConnected);
                self.to_node.push(self.returned(request, true, error));
            }
        }
    }
}

/// Why a session has not done a handshake command.
enum NotDone {
    Refused(Error),
    /// The session is over, or waits for another that competes with it.
    NotCurrent {
        is_over: bool,
        error: Error,
    },
}

impl From<SendError> for NotDone {
    fn from(error: SendError) -> Self {
        let is_over = error == SendError::Closed;
        let is_waiting = error == SendError::NotEstablished;
        Self::new(is_waiting, is_over, Error::from(error).on_stream(HANDSHAKE))
    }
}

impl From<HandshakeError> for NotDone {
    fn from(error: HandshakeError) -> Self {
        let is_over = error == HandshakeError::Closed;
        Self::new(error == HandshakeError::NotConnected, is_over, error.into())
    }
}

impl NotDone {
    const fn new(is_waiting: bool, is_over: bool, error: Error) -> Self {
        match is_waiting || is_over {
            true => Self::NotCurrent { is_over, error },
            false => Self::Refused(error),
        }
    }
}
