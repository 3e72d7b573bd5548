//! What every machine of a run is lent: the plan, the time, and the record of what happens.

use std::collections::VecDeque;
use std::sync::Arc;

use glueberry_proto::crypto::{Aead, default_aead};
use glueberry_proto::{Instant, StreamName};

use crate::check::{Checks, Invariant};
use crate::cipher::{FastAead, Witness};
use crate::fault::Fired;
use crate::plan::{Disk, Plan, What, stream_names};
use crate::queue::Queue;
use crate::trace::{Kind, Note, Trace};
use crate::wake::{Side, Touch, Wake};

/// The plan of a run, its time and what is due, and the record of what has happened.
///
/// Machines that own a part of the world are lent this with each call.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) streams: Vec<StreamName>,
    /// In microseconds.
    pub(crate) now: u64,
    queue: Queue<Wake>,
    /// Machines whose outputs are to be looked at.
    pub(crate) touched: VecDeque<Touch>,
    /// Of each host: when its process is killed.
    pub(crate) kills: Vec<Kill>,
    /// No step is made any more, and nothing goes wrong.
    pub(crate) is_calm: bool,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    /// Sees all sealing.
    pub(crate) witness: Witness,
    /// How often each kind of fault has really met something.
    pub(crate) fired: Fired,
    /// How often each situation was reached.
    pub(crate) reached: Fired,
    /// Inputs to machines so far.
    pub(crate) inputs: u64,
}

/// When a process is killed: a count of inputs, so that it is in the middle of something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kill {
    /// Inputs that its machines still get before, and how long it is down then.
    pub(crate) left: Option<(u64, u64)>,
    /// Its latest input was the last one.
    pub(crate) is_due: bool,
}

impl Run {
    pub(crate) fn new(plan: Plan, keeps_trace: bool) -> Self {
        let count = plan.hosts.len();
        let aead: Arc<dyn Aead> = if plan.is_real { default_aead() } else { Arc::new(FastAead) };
        Self {
            now: 0,
            queue: Queue::new(plan.seed),
            streams: stream_names(),
            touched: VecDeque::new(),
            kills: vec![Kill::default(); count],
            is_calm: false,
            checks: Checks::new(),
            trace: Trace::new(count, keeps_trace),
            witness: Witness::new(aead),
            fired: Fired::new(),
            reached: Fired::new(),
            inputs: 0,
            plan,
        }
    }

    /// Returns the time as machines get it.
    pub(crate) fn at(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    /// Returns whether a host runs a script that breaks the protocol, and no node.
    pub(crate) fn is_adversary(&self, host: usize) -> bool {
        self.plan.hosts[host].is_adversary
    }

    /// Returns whether the application of a host never prepares a stream.
    pub(crate) fn skips(&self, host: usize, stream: usize) -> bool {
        self.plan.hosts[host].skips >> stream & 1 == 1
    }

    // ---- what is due --------------------------------------------------------------------------

    /// Has something happen at a time.
    pub(crate) fn push(&mut self, at: u64, wake: Wake) {
        self.queue.push(at, wake);
    }

    /// Moves on to the next thing that is due until a time, and takes it.
    pub(crate) fn next(&mut self, until: u64) -> Option<Wake> {
        let (at, wake) = self.queue.pop(until)?;
        self.now = at;
        Some(wake)
    }

    /// Has the outputs of a session looked at.
    pub(crate) fn touch_session(&mut self, link: usize, side: Side) {
        self.touched.push_back(Touch::Session(link, side));
    }

    /// Has the outputs of a node looked at.
    pub(crate) fn touch_node(&mut self, host: usize) {
        self.touched.push_back(Touch::Node(host));
    }

    // ---- the record ---------------------------------------------------------------------------

    /// Notes something that happened on a host.
    pub(crate) fn note(&mut self, host: usize, link: usize, what: Kind, (a, b): (u64, u64)) {
        self.trace.note(Note { at: self.now, host, link, what, a, b });
    }

    /// Counts and notes an input to a machine of a host.
    pub(crate) fn input(&mut self, host: usize, link: usize, what: Kind, numbers: (u64, u64)) {
        self.inputs += 1;
        self.note(host, link, what, numbers);
        let kill = &mut self.kills[host];
        if let Some((inputs, _)) = &mut kill.left {
            match inputs.checked_sub(1) {
                Some(fewer) => *inputs = fewer,
                None => kill.is_due = true,
            }
        }
    }

    /// Counts a situation.
    pub(crate) fn reach(&mut self, what: Option<&'static str>) {
        if let Some(what) = what {
            *self.reached.entry(what).or_default() += 1;
        }
    }

    /// Counts a fault that has met something.
    pub(crate) fn fire(&mut self, kind: &'static str) {
        *self.fired.entry(kind).or_default() += 1;
    }

    /// Counts a fault if it has met something.
    pub(crate) fn fire_if(&mut self, is_met: bool, kind: &'static str) {
        if is_met {
            self.fire(kind);
        }
    }

    /// Reports something that can't be.
    pub(crate) fn fail(
        &mut self,
        invariant: Invariant,
        host: usize,
        fact: &str,
        clash: &dyn std::fmt::Debug,
    ) {
        let at = (self.now, host);
        self.checks.hold(invariant, at, false, || (fact.to_owned(), format!("{clash:?}")));
    }

    /// Returns what is left of the disk of a host that is killed by a step of the plan.
    pub(crate) fn disk_after(&self, host: usize) -> Disk {
        let crash = self.plan.steps.iter().rev().find_map(|step| match step.what {
            What::Crash { host: dead, disk, .. } if dead == host && step.at <= self.now => {
                Some(disk)
            }
            _ => None,
        });
        crash.unwrap_or(Disk::Intact)
    }
}
