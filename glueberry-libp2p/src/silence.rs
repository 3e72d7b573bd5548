//! Noticing that a peer has fallen silent, and what it must have received.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant as StdInstant};

use glueberry_proto::Instant;
use glueberry_tokio::adapter::Shared;

use crate::settings::Settings;

/// What a connection and its substreams know together about the peer's silence, on the node's
/// clock.
#[derive(Clone, Debug)]
pub(crate) struct Liveness {
    shared: Arc<Shared>,
    /// Never contended: a connection and its substreams live in one task.
    silence: Arc<Mutex<Silence>>,
    question: Arc<Mutex<Question>>,
}

impl Liveness {
    pub(crate) fn new(shared: Arc<Shared>, settings: &Settings) -> Self {
        let silence = Silence::new(shared.now(), settings.keep_alive, settings.lost_after);
        Self { shared, silence: Arc::new(Mutex::new(silence)), question: Arc::default() }
    }

    pub(crate) fn now(&self) -> Instant {
        self.shared.now()
    }

    /// Something came from the peer.
    pub(crate) fn received(&self) {
        self.lock().received(self.now());
    }

    /// The probe has come to its end.
    pub(crate) fn answered(&self, is_answer: bool) {
        self.lock().answered(self.now(), is_answer);
    }

    /// Ready once everything sent by then is known to have arrived. Else a probe is to prove it,
    /// and its answer wakes the task.
    pub(crate) fn poll_proof(&self, sent_at: Instant) -> Poll<()> {
        self.lock().poll_proof(sent_at)
    }

    /// Ready once the peer was asked, at `since` or later, whether it stays in the session, with its
    /// answer. The answer wakes the task.
    pub(crate) fn poll_stays(&self, since: Instant) -> Poll<bool> {
        self.lock_question().poll(since)
    }

    /// Returns whether to ask the peer now whether it stays; if so, the question has begun.
    pub(crate) fn begins_to_ask(&self) -> bool {
        self.lock_question().begins(self.now())
    }

    /// The peer has answered the question, or there is no answer, which is as good as a refusal.
    pub(crate) fn heard_whether_it_stays(&self, stays: bool) {
        self.lock_question().answered(stays);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lock().is_lost(self.now())
    }

    /// Returns whether a probe has been under way for longer than it is until the next.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.lock().is_unanswered(self.now())
    }

    /// The next probe does not wait for an answer to the one that is under way.
    pub(crate) fn probes_again(&self) {
        self.lock().probing = None;
    }

    /// Returns whether to begin a probe now; if so, it has begun.
    pub(crate) fn begins_probe(&self) -> bool {
        self.lock().begins_probe(self.now())
    }

    /// Returns when to look again.
    pub(crate) fn deadline(&self) -> Option<StdInstant> {
        let at = self.lock().deadline(self.now());
        let ask_at = self.lock_question().deadline();
        self.shared.until(ask_at.map_or(at, |ask_at| at.min(ask_at)))
    }

    fn lock_question(&self) -> MutexGuard<'_, Question> {
        self.question.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When to probe a peer, and when to give it up.
///
/// A probe is a substream on a protocol that every peer refuses: the refusal is an answer that
/// no peer has to implement. It also proves that what was sent before it has arrived, on a transport
/// that keeps the order of substreams.
#[derive(Debug)]
struct Silence {
    keep_alive: Duration,
    lost_after: u32,
    received_at: Instant,
    probing: Option<Instant>,
    probed_at: Instant,
    /// A probe that failed is not repeated at once.
    not_before: Instant,
    /// When the latest probe that was answered began.
    proven: Option<Instant>,
    /// The first of what was sent that a probe is to prove.
    wanted: Option<Instant>,
}

impl Silence {
    fn new(now: Instant, keep_alive: Duration, lost_after: u32) -> Self {
        Self {
            keep_alive,
            lost_after,
            received_at: now,
            probing: None,
            probed_at: now,
            not_before: now,
            proven: None,
            wanted: None,
        }
    }

    /// Something came from the peer.
    fn received(&mut self, now: Instant) {
        self.received_at = self.received_at.max(now);
    }

    /// The probe has come to its end.
    fn answered(&mut self, now: Instant, is_answer: bool) {
        let Some(since) = self.probing.take() else {
            return;
        };
        if is_answer {
            self.received(now);
            self.proven = Some(since);
            // Whatever was sent later is asked about again.
            self.wanted = None;
        } else {
            self.not_before = now + RETRY;
        }
    }

    /// Ready once everything sent by then is known to have arrived. Else a probe is to prove it.
    fn poll_proof(&mut self, sent_at: Instant) -> Poll<()> {
        if self.proven.is_some_and(|since| since > sent_at) {
            return Poll::Ready(());
        }
        self.wanted = Some(self.wanted.map_or(sent_at, |wanted| wanted.min(sent_at)));
        Poll::Pending
    }

    fn is_lost(&self, now: Instant) -> bool {
        now >= self.lost_at()
    }

    fn is_unanswered(&self, now: Instant) -> bool {
        self.probing.is_some_and(|since| since + self.keep_alive <= now)
    }

    /// Returns whether to begin a probe now, because of silence or because something is to be
    /// proven; if so, it has begun.
    fn begins_probe(&mut self, now: Instant) -> bool {
        let is_due = self.next_probe() <= now || self.wanted.is_some_and(|sent_at| sent_at < now);
        if self.probing.is_some() || !is_due || now < self.not_before {
            return false;
        }
        self.probing = Some(now);
        self.probed_at = now;
        true
    }

    /// Returns when to look again.
    fn deadline(&self, now: Instant) -> Instant {
        match (self.probing, self.wanted) {
            (Some(_), _) if self.is_unanswered(now) => self.lost_at(),
            (Some(since), _) => self.lost_at().min(since + self.keep_alive),
            (None, Some(sent_at)) => {
                (sent_at + TICK).min(self.next_probe()).max(self.not_before).min(self.lost_at())
            }
            (None, None) => self.next_probe().max(self.not_before).min(self.lost_at()),
        }
    }

    fn next_probe(&self) -> Instant {
        self.received_at.max(self.probed_at) + self.keep_alive
    }

    fn lost_at(&self) -> Instant {
        self.received_at + self.keep_alive.saturating_mul(self.lost_after)
    }
}

/// Whether the peer stays in the session, which it is asked when that decides what is known.
#[derive(Debug, Default)]
struct Question {
    /// From when on an answer is wanted: the earliest of all requests for one.
    wanted: Option<Instant>,
    /// When the question began that is under way.
    asked: Option<Instant>,
    /// When the latest question began that was answered, and what the answer was.
    answer: Option<(Instant, bool)>,
}

impl Question {
    fn poll(&mut self, since: Instant) -> Poll<bool> {
        match self.answer {
            Some((asked, stays)) if asked >= since => return Poll::Ready(stays),
            _ => {}
        }
        self.wanted = Some(self.wanted.map_or(since, |wanted| wanted.min(since)));
        Poll::Pending
    }

    fn begins(&mut self, now: Instant) -> bool {
        if self.asked.is_some() || self.wanted.is_none_or(|since| now < since) {
            return false;
        }
        self.wanted = None;
        self.asked = Some(now);
        true
    }

    /// A caller that wants a later answer asks again.
    fn answered(&mut self, stays: bool) {
        if let Some(asked) = self.asked.take() {
            self.answer = Some((asked, stays));
        }
    }

    /// Returns when to look again.
    fn deadline(&self) -> Option<Instant> {
        self.wanted.filter(|_| self.asked.is_none())
    }
}

/// A probe proves what was sent strictly before it.
const TICK: Duration = Duration::from_micros(1);
/// Wait after a probe that failed.
const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> Instant {
        Instant::ZERO + SECOND * seconds
    }

    #[test]
    fn a_silent_peer_is_probed_and_then_lost() {
        let mut silence = Silence::new(at(0), 5 * SECOND, 3);
        assert!(!silence.begins_probe(at(4)));
        assert_eq!(silence.deadline(at(4)), at(5));
        assert!(silence.begins_probe(at(5)));
        assert_eq!(silence.deadline(at(5)), at(10));
        assert!(!silence.begins_probe(at(11)), "one at a time");
        assert_eq!(silence.deadline(at(11)), at(15));
        assert!(!silence.is_lost(at(14)));
        assert!(silence.is_lost(at(15)));
    }

    #[test]
    fn an_answer_is_a_sign_of_life_and_a_failure_is_none() {
        let mut silence = Silence::new(at(0), 5 * SECOND, 3);
        assert!(silence.begins_probe(at(5)));
        silence.answered(at(6), false);
        assert!(silence.is_lost(at(15)));
        assert!(silence.begins_probe(at(10)));
        silence.answered(at(11), true);
        assert!(!silence.is_lost(at(25)));
        assert!(silence.is_lost(at(26)));
    }

    #[test]
    fn a_probe_whose_answer_cannot_be_read_is_followed_by_others() {
        let mut silence = Silence::new(at(0), 5 * SECOND, 3);
        assert!(silence.begins_probe(at(5)));
        assert!(!silence.is_unanswered(at(9)));
        assert!(silence.is_unanswered(at(10)));
        silence.probing = None;
        assert!(silence.begins_probe(at(10)));
        assert!(!silence.is_unanswered(at(14)));
    }

    #[test]
    fn a_question_is_asked_once_it_counts_and_again_for_what_came_later() {
        let mut question = Question::default();
        assert!(!question.begins(at(1)), "nobody wants to know");
        assert!(question.poll(at(2)).is_pending());
        assert!(!question.begins(at(1)));
        assert_eq!(question.deadline(), Some(at(2)));
        assert!(question.begins(at(2)));
        assert!(question.poll(at(3)).is_pending());
        assert!(!question.begins(at(4)), "one at a time");
        question.answered(true);
        assert_eq!(question.poll(at(2)), Poll::Ready(true));
        assert!(question.poll(at(3)).is_pending(), "it was asked too early for that");
        assert!(question.begins(at(4)));
        question.answered(false);
        assert_eq!(question.poll(at(3)), Poll::Ready(false));
    }

    #[test]
    fn an_answer_proves_what_was_sent_before_its_probe_and_nothing_later() {
        let mut silence = Silence::new(at(0), 5 * SECOND, 3);
        assert!(silence.poll_proof(at(1)).is_pending());
        assert!(!silence.begins_probe(at(1)), "not strictly before");
        assert_eq!(silence.deadline(at(1)), at(1) + TICK);
        assert!(silence.begins_probe(at(2)));
        assert!(silence.poll_proof(at(1)).is_pending());
        silence.answered(at(3), true);
        assert!(silence.poll_proof(at(1)).is_ready());
        assert!(!silence.begins_probe(at(4)), "nothing is to be proven");
        assert!(silence.poll_proof(at(2)).is_pending());
        assert!(silence.begins_probe(at(4)));
    }
}
