//! What was never varied at first, each of it in some seeds only, and what seldom meets otherwise.

use crate::generate::SECOND;
use crate::plan::{HandshakeStyle, Mix, Plan, What};
use crate::rng::Rng;

/// Widens a plan that has its wishes, and no traffic yet.
pub(crate) fn widen(plan: &mut Plan, rng: &mut Rng) {
    talk(plan, rng);
    crowd(plan, rng);
    busy(plan, rng);
    plan.limits.more.padding = rng.pick(&[0, 0, 0, 1, 16, 1000]);
}

/// Applications that say much in the handshake, that listen late, or whose nodes hold little.
fn talk(plan: &mut Plan, rng: &mut Rng) {
    if !rng.chance(300) {
        return;
    }
    let has_adversary = plan.hosts.iter().any(|host| host.is_adversary);
    let more = plan.limits.more;
    let rejects = plan.profile != Mix::Calm && rng.chance(500);
    for host in &mut plan.hosts {
        host.talk.rejects = if rejects { 50 } else { 0 };
        // What must be said has room in any case.
        let room = more.max_handshake_size.saturating_sub(2 * (more.word + SHORT));
        // More takes too many round trips where windows are small.
        let fits = (room / 2).min(MOST) / more.word;
        host.talk.more = rng.pick(&[0, 1, 10, 60]).min(fits);
        host.talk.hears_after = rng.pick(&[0, 1_000, 200_000]);
        // Who finalizes at once discards what comes then, and no more than it would hold.
        let is_patient = host.handshake_style != HandshakeStyle::Prompt;
        if is_patient && !has_adversary && rng.chance(500) {
            host.talk.room = SMALL_ROOM.min(more.max_handshake_size);
            host.talk.more = host.talk.more.min(SMALL_ROOM / 4 / more.word);
        }
    }
}

/// Some hosts that are slow to shake hands want to be connected to one, as many as it may have, and
/// others do when those have been Connected for long.
fn crowd(plan: &mut Plan, rng: &mut Rng) {
    let prunes = plan.limits.more.sessions_high < plan.hosts.len();
    let hub = rng.index(plan.hosts.len());
    let is_long = plan.profile == Mix::Lifecycle;
    if !prunes || is_long || plan.hosts[hub].is_adversary || !rng.chance(400) {
        return;
    }
    let limits = &mut plan.limits;
    let long = limits.negotiation_timeout;
    limits.handshake_timeout = limits.handshake_timeout.max(10 * long + 20 * SECOND);
    let slow = plan.hosts.len() / 3;
    limits.more.sessions_high = slow + 2;
    limits.more.sessions_low = rng.index(slow) + 1;
    let begins = rng.below(plan.calm_from / 2);
    for step in 1..plan.hosts.len() {
        let by = (hub + step) % plan.hosts.len();
        let (is_slow, after) = (step <= slow, rng.below(2 * SECOND));
        if is_slow {
            plan.hosts[by].handshake_style = HandshakeStyle::Slow(2 * long);
        }
        let at = begins + after + if is_slow { 0 } else { rng.range(long, 2 * long) };
        if !plan.hosts[by].is_adversary {
            plan.step(at, What::Want { by, of: hub });
        }
    }
    for host in &mut plan.hosts {
        // In Go's profile who finalizes at once gives the peer no more time than for a negotiation.
        if host.handshake_style == HandshakeStyle::Prompt {
            host.handshake_style = HandshakeStyle::Polite;
        }
    }
}

/// A host may dial few others at a time, and wants all of them, of whom many do not answer.
fn busy(plan: &mut Plan, rng: &mut Rng) {
    if plan.profile == Mix::Calm || plan.profile == Mix::Lifecycle || !rng.chance(150) {
        return;
    }
    (plan.limits.max_dials, plan.limits.autoconnect) = (2, true);
    let (count, by) = (plan.hosts.len(), rng.index(plan.hosts.len()));
    let begins = rng.below(plan.calm_from / 2);
    let hosts = rng.next() & ((1 << count) - 1) & !(1 << by);
    plan.step(begins, What::Partition { hosts, one_way: false, lasts: rng.range(5, 60) * SECOND });
    for of in (0..count).filter(|of| *of != by) {
        let is_honest = [by, of].into_iter().all(|host| !plan.hosts[host].is_adversary);
        if is_honest && rng.chance(700) {
            plan.step(begins + rng.below(10 * SECOND), What::Want { by, of });
        }
    }
}

/// Bytes that are said at a time, beside what must be.
const MOST: usize = 1500;
/// Bytes of a short handshake message.
const SHORT: usize = 24;
/// Less than some say in a handshake.
const SMALL_ROOM: usize = 1300;
