//! Noticing that a peer has fallen silent, and what it must have received.

use std::time::Duration;

use glueberry_proto::Instant;

/// When to probe a peer, and when to give it up.
///
/// A probe is a substream on a protocol that every peer refuses: the refusal is an answer that
/// nobody has to implement. It also proves that what was sent before it has arrived, on a transport
/// that keeps the order of substreams.
#[derive(Debug)]
pub(crate) struct Silence {
    keep_alive: Duration,
    lost_after: u32,
    heard_at: Instant,
    probing: Option<Instant>,
    probed_at: Instant,
    /// A probe that failed is not repeated at once.
    not_before: Instant,
    /// When the latest probe that was answered began.
    proven: Option<Instant>,
}

impl Silence {
    pub(crate) fn new(now: Instant, keep_alive: Duration, lost_after: u32) -> Self {
        Self {
            keep_alive,
            lost_after,
            heard_at: now,
            probing: None,
            probed_at: now,
            not_before: now,
            proven: None,
        }
    }

    /// Something came from the peer.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = self.heard_at.max(now);
    }

    /// The probe has come to its end.
    pub(crate) fn answered(&mut self, now: Instant, is_answer: bool) {
        let Some(since) = self.probing.take() else {
            return;
        };
        if is_answer {
            self.heard(now);
            self.proven = Some(since);
        } else {
            self.not_before = now + RETRY;
        }
    }

    /// Returns whether everything sent by then is known to have arrived.
    pub(crate) fn proves(&self, sent_at: Instant) -> bool {
        self.proven.is_some_and(|since| since > sent_at)
    }

    pub(crate) fn is_lost(&self, now: Instant) -> bool {
        now >= self.lost_at()
    }

    /// Returns whether to begin a probe now, because of silence or because `wanted` is to be proven;
    /// if so, it has begun.
    pub(crate) fn begins_probe(&mut self, now: Instant, wanted: Option<Instant>) -> bool {
        let is_due = self.next_probe() <= now || wanted.is_some_and(|sent_at| sent_at < now);
        if self.probing.is_some() || !is_due || now < self.not_before {
            return false;
        }
        self.probing = Some(now);
        self.probed_at = now;
        true
    }

    /// Returns when to look again.
    pub(crate) fn deadline(&self, wanted: Option<Instant>) -> Instant {
        match (self.probing, wanted) {
            (Some(_), _) => self.lost_at(),
            (None, Some(sent_at)) => {
                (sent_at + TICK).min(self.next_probe()).max(self.not_before).min(self.lost_at())
            }
            (None, None) => self.next_probe().max(self.not_before).min(self.lost_at()),
        }
    }

    fn next_probe(&self) -> Instant {
        self.heard_at.max(self.probed_at) + self.keep_alive
    }

    fn lost_at(&self) -> Instant {
        self.heard_at + self.keep_alive.saturating_mul(self.lost_after)
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
        assert!(!silence.begins_probe(at(4), None));
        assert_eq!(silence.deadline(None), at(5));
        assert!(silence.begins_probe(at(5), None));
        assert!(!silence.begins_probe(at(11), None), "one at a time");
        assert_eq!(silence.deadline(None), at(15));
        assert!(!silence.is_lost(at(14)));
        assert!(silence.is_lost(at(15)));
    }

    #[test]
    fn an_answer_is_a_sign_of_life_and_a_failure_is_none() {
        let mut silence = Silence::new(at(0), 5 * SECOND, 3);
        assert!(silence.begins_probe(at(5), None));
        silence.answered(at(6), false);
        assert!(silence.is_lost(at(15)));
        assert!(silence.begins_probe(at(10), None));
        silence.answered(at(11), true);
        assert!(!silence.is_lost(at(25)));
        assert!(silence.is_lost(at(26)));
    }

    #[test]
    fn an_answer_proves_what_was_sent_before_its_probe_and_nothing_later() {
        let mut silence = Silence::new(at(0), 5 * SECOND, 3);
        assert!(!silence.begins_probe(at(1), Some(at(1))), "not strictly before");
        assert_eq!(silence.deadline(Some(at(1))), at(1) + TICK);
        assert!(silence.begins_probe(at(2), Some(at(1))));
        assert!(!silence.proves(at(1)));
        silence.answered(at(3), true);
        assert!(silence.proves(at(1)));
        assert!(!silence.proves(at(2)));
    }
}
