//! From a seed to a plan: which faults there are at all differs per seed, so that rare mixtures
//! are as likely as common ones.

use crate::attack::Attack;
use crate::plan::{
    Cuts, Disk, Family, HandshakeStyle, HostPlan, Limits, MAX_HOSTS, Mix, MoreLimits, NamingMode,
    Net, Pipe, Plan, STREAMS, Step, Tampering, What,
};
use crate::profiles::Wires;
use crate::rng::{Rng, u64_of, usize_of};
use crate::talk::Talk;
use crate::vary;

/// Sizes of a run that override what the seed would choose.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    pub(crate) hosts: Option<usize>,
    /// In microseconds.
    pub(crate) time: Option<u64>,
}

/// Makes the plan of a seed.
pub(crate) fn generate(seed: u64, mix: Mix, size: Size) -> Plan {
    let mut rng = Rng::derive(seed, PLAN, 0);
    // Drawn in any case, so that a size that is given shifts no other draw.
    let time = match mix {
        Mix::Lifecycle => HOUR,
        _ => rng.range(8 * MINUTE, 12 * MINUTE),
    };
    let count = match mix {
        Mix::Lifecycle => 16,
        Mix::Calm => rng.index(6) + 2,
        _ => rng.index(5) + 8,
    };
    let (time, count) = (size.time.unwrap_or(time), size.hosts.unwrap_or(count));
    let mut plan = Plan {
        seed,
        profile: mix,
        hosts: hosts(&mut rng, count.clamp(2, MAX_HOSTS), mix),
        net: net(&mut rng, mix),
        limits: limits(&mut rng, seed, mix, count),
        calm_from: time,
        is_real: seed.is_multiple_of(10),
        steps: Vec::new(),
    };
    if plan.net.bandwidth > 0 {
        // A name that waits behind a long backlog times out, and each time is an attempt.
        plan.limits.more.stream_attempts = MoreLimits::default().stream_attempts;
    }
    if mix == Mix::Pipe {
        over_pipes(&mut plan.net, &mut Rng::derive(seed, PIPE, 0));
        // The mux's first frame goes ahead of the first substream.
        plan.limits.negotiation_timeout += plan.longest_delay();
    }
    vary(&mut plan, &mut Rng::derive(seed, VARY, 0));
    let mut second = Rng::derive(seed, SECOND_VERSION, 0);
    speak_v2(&mut plan, &mut second);
    wishes(&mut plan, &mut rng);
    vary::widen(&mut plan, &mut Rng::derive(seed, WIDEN, 0));
    traffic(&mut plan, &mut rng);
    faults(&mut plan, &mut rng);
    tamper(&mut plan, &mut second);
    plan.steps.sort_by_key(|step| step.at);
    plan
}

fn hosts(rng: &mut Rng, count: usize, mix: Mix) -> Vec<HostPlan> {
    // Whether a key is the smaller one decides much: who is who is shuffled.
    let mut identities: Vec<u16> = (0..SHUFFLED).collect();
    for at in (1..identities.len()).rev() {
        identities.swap(at, rng.index(at + 1));
    }
    // The keys of the others are in no order as it is.
    identities.extend((SHUFFLED..).take(count));
    let common = rng.pick(&[Wires::Document, Wires::Go]);
    let speaks_one = rng.chance(300);
    let handshake_style = [
        HandshakeStyle::Prompt,
        HandshakeStyle::Polite,
        HandshakeStyle::Polite,
        HandshakeStyle::Slow(rng.range(10_000, 3 * SECOND)),
    ];
    let mut hosts: Vec<HostPlan> = identities
        .into_iter()
        .take(count)
        .map(|identity| HostPlan {
            identity,
            wires: if speaks_one {
                common
            } else {
                rng.pick(&[common, Wires::Both, Wires::BothGoFirst])
            },
            handshake_style: rng.pick(&handshake_style),
            is_adversary: false,
            skips: 0,
            talk: Talk::default(),
        })
        .collect();
    let adversaries = match mix {
        Mix::Hostile => count.div_ceil(4),
        Mix::Default if rng.chance(300) => 1,
        _ => 0,
    };
    for host in hosts.iter_mut().rev().take(adversaries) {
        host.is_adversary = true;
    }
    hosts
}

fn net(rng: &mut Rng, mix: Mix) -> Net {
    let delay = rng.pick(&[100, 1_000, 10_000, 40_000, 120_000]);
    let is_narrow = mix != Mix::Lifecycle && rng.chance(250);
    Net {
        naming: rng.pick(&[NamingMode::Negotiated, NamingMode::Preamble, NamingMode::Either]),
        delay,
        jitter: rng.pick(&[0, delay / 10, delay / 2, 2 * delay]),
        family: rng.pick(&[
            Family::Constant,
            Family::Uniform,
            Family::Exponential,
            Family::Bimodal,
        ]),
        bandwidth: if is_narrow { rng.range(10_000, 1_000_000) } else { 0 },
        window: rng.pick(&[4 << 10, 64 << 10, 1 << 20]),
        cuts: match rng.below(5) {
            0 | 1 => Cuts::Whole,
            2 => Cuts::UpTo(rng.range(64, 4096)),
            3 => Cuts::UpTo(rng.range(16, 256)),
            _ => Cuts::Crumbs,
        },
        idle: rng.range(5 * SECOND, 30 * SECOND),
        acknowledges_reads: rng.chance(700),
        message_delay: rng.pick(&[0, 0, 50, 5_000]),
        pipe: None,
    }
}

/// Has the substreams of each connection share a pipe.
fn over_pipes(net: &mut Net, rng: &mut Rng) {
    let holds = rng.pick(&[4 << 10, 64 << 10, 1 << 20]);
    // What waits in it for a quarter of a second is no reason to take a peer for dead.
    let most = match net.bandwidth {
        0 => holds,
        bandwidth => usize_of(bandwidth / 4),
    };
    let pipe = Pipe { holds: holds.min(most), max_frame: rng.pick(&[100, 1_000, 16 << 10]) };
    (net.naming, net.acknowledges_reads) = (NamingMode::Preamble, true);
    net.pipe = Some(pipe);
}

fn limits(rng: &mut Rng, seed: u64, mix: Mix, count: usize) -> Limits {
    let is_tight = mix != Mix::Lifecycle && rng.chance(600);
    Limits {
        high_watermark: if is_tight { rng.range(2, 40) } else { 1000 }.try_into().unwrap_or(1000),
        receive_queue: if is_tight { rng.range(1, 20) } else { 1000 }.try_into().unwrap_or(1000),
        receive_queue_bytes: if is_tight { 16 << 10 } else { 1 << 20 },
        max_message_size: MAX_MESSAGE,
        max_dials: if rng.chance(200) { 2 } else { 16 },
        max_sessions: if rng.chance(100) { count + 2 } else { 512 },
        dial_timeout: rng.range(2 * SECOND, 30 * SECOND),
        handshake_timeout: rng.range(10 * SECOND, 60 * SECOND),
        negotiation_timeout: rng.range(5 * SECOND, 15 * SECOND),
        drain_timeout: rng.range(SECOND, 8 * SECOND),
        cooldown: rng.range(SECOND, 60 * SECOND),
        refusal: rng.range(SECOND, 30 * SECOND),
        retry: rng.range(SECOND / 2, 10 * SECOND),
        backoff: rng.range(SECOND, 40 * SECOND),
        attempts: if rng.chance(300) { 3 } else { 0 },
        autoconnect: rng.chance(200),
        more: more_limits(&mut Rng::derive(seed, MORE, 0)),
    }
}

fn more_limits(rng: &mut Rng) -> MoreLimits {
    let default = MoreLimits::default();
    MoreLimits {
        high_watermark_bytes: rng.pick(&[20_000, 100_000, default.high_watermark_bytes]),
        max_handshake_size: rng.pick(&[2 << 10, default.max_handshake_size]),
        max_substreams: rng.pick(&[16, 24, default.max_substreams]),
        stream_attempts: rng.pick(&[3, default.stream_attempts]),
        settle_time: rng.pick(&[50_000, default.settle_time, 4 * SECOND]),
        probe_timeout: rng.pick(&[SECOND, default.probe_timeout, 8 * SECOND]),
        stable_after: rng.pick(&[5 * SECOND, default.stable_after]),
        ..default
    }
}

/// What most seeds leave as it is by default, each of it by itself.
fn vary(plan: &mut Plan, rng: &mut Rng) {
    let count = plan.hosts.len();
    let more = &mut plan.limits.more;
    more.low_share = rng.pick(&[0, 100, 500, 500, 900]);
    more.retry_delay = rng.pick(&[10_000, more.retry_delay, more.retry_delay, 700_000]);
    // Two of the longer ones are more than may be unanswered.
    let word = rng.pick(&[more.word, more.word, more.max_handshake_size * 3 / 5]);
    // A long one takes too many round trips where windows are small.
    more.word = word.min(LONG_WORD);
    more.max_parked = rng.pick(&[1, more.max_parked, more.max_parked]);
    more.disk_delay = rng.pick(&[more.disk_delay, more.disk_delay, 2 * SECOND, 9 * SECOND]);
    if plan.profile == Mix::Calm {
        return;
    }
    // Who is pruned comes back at once, which fills an hour.
    let is_long = plan.profile == Mix::Lifecycle;
    if rng.chance(if is_long { 60 } else { 250 }) {
        more.sessions_high = rng.index(5) + 2;
        more.sessions_low = rng.index(more.sessions_high - 1) + 1;
        let some = (0..count).filter(|_| rng.chance(250));
        more.protected = some.fold(0, |set, host| set | 1 << host);
    }
    if rng.chance(250) {
        for host in &mut plan.hosts {
            host.skips = if rng.chance(300) { 1 << rng.index(STREAMS.len()) } else { 0 };
        }
    }
    let limits = &mut plan.limits;
    if rng.chance(150) {
        // The handshake outlives the time for a substream to be negotiated.
        let after = limits.negotiation_timeout * 6 / 5;
        limits.handshake_timeout = limits.handshake_timeout.max(5 * after + 20 * SECOND);
        for host in &mut plan.hosts {
            // In Go's profile who finalizes at once gives the peer no more time than for a
            // negotiation.
            if host.handshake_style == HandshakeStyle::Prompt {
                host.handshake_style = HandshakeStyle::Polite;
            }
        }
        let host = rng.index(count);
        plan.hosts[host].handshake_style = HandshakeStyle::Slow(after);
    }
}

/// Who speaks v2: nobody, some beside what they speak otherwise, or all, some of them nothing else.
fn speak_v2(plan: &mut Plan, rng: &mut Rng) {
    let prunes = plan.limits.more.sessions_high < plan.hosts.len();
    if plan.profile == Mix::Lifecycle && prunes {
        // Who is pruned comes back at once: an hour of key exchanges.
        return;
    }
    let (speaks, nothing_else) = rng.pick(&[(0, 0), (600, 0), (600, 150), (1000, 0), (1000, 500)]);
    for host in &mut plan.hosts {
        let more = match host.wires {
            Wires::Document => Wires::V2AndDocument,
            Wires::Go => Wires::V2AndGo,
            _ => Wires::All,
        };
        let (is_speaker, is_strict) = (rng.chance(speaks), rng.chance(nothing_else));
        host.wires = match (is_speaker, is_strict) {
            (true, true) => Wires::V2,
            (true, false) => more,
            (false, _) => host.wires,
        };
    }
}

/// Somebody alters what is said by v2.
fn tamper(plan: &mut Plan, rng: &mut Rng) {
    use Tampering::{Drop, Flip, Reflect, Repeat, Replay};
    let most = match plan.profile {
        // Between the ends of a pipe there are no substreams to alter.
        Mix::Calm | Mix::Pipe => return,
        Mix::Lifecycle | Mix::Traffic => 3,
        Mix::Default | Mix::Hostile => 8,
    };
    if rng.chance(500) {
        return;
    }
    for _ in 0..rng.range(1, most) {
        let (a, b) = wanted_pair(plan, rng);
        let (from, to) = if rng.chance(500) { (a, b) } else { (b, a) };
        let how = rng.pick(&[Flip, Drop, Repeat, Replay, Reflect]);
        let (at, after) = (rng.below(plan.calm_from), rng.exponential(2_000));
        plan.step(at, What::Tamper { from, to, after, how });
    }
}

/// Who wants to be connected to whom: at least a ring, so that no host is alone.
fn wishes(plan: &mut Plan, rng: &mut Rng) {
    let count = plan.hosts.len();
    let degree = match plan.profile {
        Mix::Lifecycle => 3.min(count - 1),
        _ => rng.index(2) + 1,
    };
    for by in 0..count {
        for step in 1..=degree {
            let of = match step {
                1 => (by + 1) % count,
                _ => rng.index(count),
            };
            if of == by || plan.hosts[by].is_adversary || plan.hosts[of].is_adversary {
                continue;
            }
            let at = rng.below(5 * SECOND);
            plan.step(at, What::Want { by, of });
            if rng.chance(400) {
                // Both dial, often at the same moment.
                let at = if rng.chance(500) { at } else { rng.below(5 * SECOND) };
                plan.step(at, What::Want { by: of, of: by });
            }
        }
    }
}

/// Who says what to whom.
fn traffic(plan: &mut Plan, rng: &mut Rng) {
    let pairs: Vec<(usize, usize)> = plan
        .steps
        .iter()
        .filter_map(|step| match step.what {
            What::Want { by, of } => Some((by, of)),
            _ => None,
        })
        .collect();
    let flows = match plan.profile {
        Mix::Lifecycle => pairs.len() / 2,
        Mix::Traffic => pairs.len() * 2,
        _ => pairs.len() * 3 / 2,
    };
    let end = plan.calm_from;
    for _ in 0..flows {
        let (a, b) = rng.pick(&pairs);
        let (from, to) = if rng.chance(500) { (a, b) } else { (b, a) };
        let burst = rng.pick(&[1, 1, 2, 5, 30]);
        let messages = match plan.profile {
            Mix::Lifecycle => rng.range(5, 20),
            Mix::Traffic => rng.range(50, 150),
            _ => rng.range(20, 80),
        };
        let size = match rng.below(10) {
            0..=5 => rng.range(8, 200),
            6..=8 => rng.range(200, 2_000),
            _ => rng.range(2_000, u64_of(MAX_MESSAGE)),
        };
        let count = messages.div_ceil(burst);
        let (at, lasts) = (rng.below(end / 2), rng.range(end / 8, end / 2));
        let (stream, every) = (rng.index(STREAMS.len()), lasts / count.max(1));
        plan.step(at, What::Send { from, to, stream, count, burst, size, every });
        if rng.chance(300) {
            // Both begin at once.
            let (from, to) = (to, from);
            plan.step(at, What::Send { from, to, stream, count, burst, size, every });
        }
    }
}

/// What goes wrong: of the kinds that this seed has, each a few times.
fn faults(plan: &mut Plan, rng: &mut Rng) {
    let (kinds, each): (Vec<u64>, u64) = match plan.profile {
        Mix::Calm => return,
        Mix::Traffic => (swarm(rng, 150, 1), 2),
        Mix::Lifecycle => (swarm(rng, 500, 4), 8),
        Mix::Default | Mix::Hostile | Mix::Pipe => (swarm(rng, 400, 4), 4),
    };
    let is_possible = |kind: &u64| plan.net.pipe.is_none() || *kind != BREAK;
    let kinds: Vec<u64> = kinds.into_iter().filter(is_possible).collect();
    for kind in kinds {
        for _ in 0..rng.range(1, each) {
            fault(plan, rng, kind);
        }
    }
    let adversaries: Vec<usize> =
        (0..plan.hosts.len()).filter(|host| plan.hosts[*host].is_adversary).collect();
    let honest: Vec<usize> =
        (0..plan.hosts.len()).filter(|host| !plan.hosts[*host].is_adversary).collect();
    for by in adversaries {
        for _ in 0..rng.range(8, 30) {
            let (to, attack) = (rng.pick(&honest), rng.pick(Attack::ALL));
            let at = rng.below(plan.calm_from);
            plan.step(at, What::Attack { by, to, attack });
        }
    }
}

/// Chooses the kinds of faults of a seed, each with a chance, but at least so many.
fn swarm(rng: &mut Rng, per_mille: u64, least: usize) -> Vec<u64> {
    let mut kinds: Vec<u64> = (0..KINDS).filter(|_| rng.chance(per_mille)).collect();
    while kinds.len() < least {
        let kind = rng.below(KINDS);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

fn fault(plan: &mut Plan, rng: &mut Rng, kind: u64) {
    let end = plan.calm_from;
    let count = plan.hosts.len();
    let (host, to) = (rng.index(count), rng.index(count));
    let (a, b) = wanted_pair(plan, rng);
    let (short, long) = (rng.exponential(3 * SECOND), rng.range(SECOND, 90 * SECOND));
    let lasts = if rng.chance(500) { short } else { long };
    let what = match kind {
        0 => What::Partition {
            hosts: match rng.below(3) {
                0 => 1 << host,
                _ => rng.next() & ((1 << count) - 1),
            },
            one_way: rng.chance(300),
            lasts,
        },
        1 => What::Flap { a, b, times: rng.range(2, 12), every: rng.range(50_000, 8 * SECOND) },
        2 => What::Spike { host, factor: rng.range(2, 50), lasts },
        3 => What::Reset { a, b },
        BREAK => What::Break { from: a, to: b, after: rng.exponential(2_000) },
        5 => What::Stall { from: a, to: b, lasts },
        6 => What::Crash {
            host,
            inputs: if rng.chance(500) { 0 } else { rng.below(200) },
            down: if rng.chance(300) { rng.below(100_000) } else { lasts },
            disk: rng.pick(&[Disk::Intact, Disk::Stale, Disk::Lost, Disk::Torn, Disk::Flipped]),
        },
        7 => What::Pause { host, lasts },
        8 => What::Clock { host, by: rng.below(1 << 40).cast_signed() - (1 << 39) },
        9 => What::Sluggish { host, every: rng.pick(&[0, 10_000, 300_000]), lasts: long },
        10 => What::Absent { host, lasts },
        11 => What::CallBurst { host, calls: rng.range(5, 80) },
        12 => What::Drop { host },
        13 => What::Mislead { host: a, to, lasts },
        14 => What::Uninvited { a, b, count: rng.range(1, 6) },
        15 => What::Refuse { host: a, lasts },
        16 => What::Ban { by: a, of: b, by_clock: rng.chance(500), lasts },
        17 => What::FullDisk { host, lasts },
        _ => What::Disconnect { by: a, of: b },
    };
    let at = rng.below(end);
    plan.step(at, what);
    if let What::Ban { by, of, by_clock, lasts } = what
        && rng.chance(300)
    {
        // Another ban of the same peer, by the other measure, before the first is over.
        let lasts = rng.range(lasts / 2, 2 * lasts);
        plan.step(at + lasts / 4, What::Ban { by, of, by_clock: !by_clock, lasts });
    }
    if let What::Ban { by, by_clock: true, lasts, .. } = what
        && rng.chance(500)
    {
        // The clock jumps over the end of the ban, and back again.
        let by_micros = 2 * i64::try_from(lasts).unwrap_or(0);
        plan.step(at + lasts / 4, What::Clock { host: by, by: by_micros });
        plan.step(at + lasts * 3 / 4, What::Clock { host: by, by: -by_micros });
    }
    if kind == BREAK && rng.chance(500) {
        // Both sides have just opened a substream for the same stream.
        let stream = rng.index(STREAMS.len());
        let count = rng.range(1, 20);
        for (from, to) in [(a, b), (b, a)] {
            let progress =
                What::Send { from, to, stream, count, burst: 1, size: 100, every: SECOND };
            plan.step(at + 1, progress);
        }
    }
    if kind == 15 || kind == 13 {
        // Dials happen after something was lost.
        plan.step(at + 1, What::Reset { a, b });
    }
}

fn wanted_pair(plan: &Plan, rng: &mut Rng) -> (usize, usize) {
    let wants = plan.steps.iter().filter_map(|step| match step.what {
        What::Want { by, of } => Some((by, of)),
        _ => None,
    });
    let wants: Vec<(usize, usize)> = wants.collect();
    if wants.is_empty() { (0, 1) } else { rng.pick(&wants) }
}

impl Plan {
    pub(crate) fn step(&mut self, at: u64, what: What) {
        self.steps.push(Step { at: at.min(self.calm_from), what });
    }
}

/// Identities among which chance decides.
const SHUFFLED: u16 = 64;
/// Kinds of faults that are drawn in `fault`.
const KINDS: u64 = 19;
/// The one that breaks a substream and leaves its connection, which a pipe cannot.
const BREAK: u64 = 4;
const MAX_MESSAGE: usize = 20_000;

/// Three fifths of the smaller of the sizes that are drawn, in bytes.
const LONG_WORD: usize = 1228;
const PLAN: u64 = 1;
const MORE: u64 = 4;
const VARY: u64 = 5;
const SECOND_VERSION: u64 = 6;
const PIPE: u64 = 7;
const WIDEN: u64 = 8;
pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
