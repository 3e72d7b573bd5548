//! What outlives a host's process: its disk and its wall clock.

use glueberry_proto::book::{Book, Unsaved};
use glueberry_proto::{NodeAction, WallTime};

use super::World;
use super::node::Nodes;
use crate::check::Invariant;
use crate::host::Ban;
use crate::plan::Disk;
use crate::rng::u64_of;
use crate::trace::{Kind, NOWHERE};
use crate::wake::Wake;

impl Nodes<'_> {
    /// Does what a node asks of its disk.
    pub(super) fn more_node_action(&mut self, host: usize, action: NodeAction) {
        let NodeAction::SaveBook = action else {
            return;
        };
        let delay = self.hosts[host].rng.range(100, self.run.plan.limits.more.disk_delay);
        let state = &mut self.hosts[host];
        let Some(node) = &state.node else {
            return;
        };
        state.disk.begin_save(state.life, node.book().clone());
        for ban in state.banned.iter_mut().flatten() {
            ban.is_written = true;
        }
        self.run.push(self.run.now + delay, Wake::Saved(host, state.life));
    }

    /// The disk has what it was given, or says that it is full.
    pub(super) fn saved(&mut self, host: usize, life: u64) {
        let now = self.run.at();
        let is_full = self.hosts[host].disk_full_until > self.run.now;
        let state = &mut self.hosts[host];
        let (Some(book), Some(node)) = (state.disk.end_save(life), state.node.as_mut()) else {
            return;
        };
        if is_full {
            node.handle_book_not_saved(now);
            for ban in state.banned.iter_mut().flatten() {
                ban.is_written = false;
            }
            self.run.fire("full disk");
        } else {
            node.handle_book_saved(now, book.revision());
            for ban in state.banned.iter_mut().flatten() {
                ban.is_durable |= ban.is_written;
            }
            let is_known =
                node.book().unsaved() != Unsaved::Nothing || node.book().emit() == book.emit();
            state.disk.store(book);
            let at = (self.run.now, host);
            self.run.checks.hold(Invariant::StoredIsKnown, at, is_known, || {
                ("a book was stored, and nothing is left to be".into(), "it is another".into())
            });
            // What has changed while the book was being written is stored by the next save.
            self.expected[host].unsaved_since = None;
        }
        self.expected[host].storing.ended();
        self.input_of_node(host, Kind::Saved, (u64::from(!is_full), 0));
    }

    /// Gives a node that starts what its disk has.
    pub(super) fn load_book(&mut self, host: usize) {
        self.set_wall_time(host);
        let left = if self.hosts[host].life == 1 { Disk::Lost } else { self.run.disk_after(host) };
        let disk = &mut self.hosts[host].disk;
        let had_any = disk.current().is_some();
        let Some(stored) = disk.after_crash(left) else {
            self.run.fire_if(left == Disk::Lost && had_any, "disk: lost");
            return self.forget_bans(host, left);
        };
        let mut bytes = stored.emit();
        let damage = match left {
            Disk::Stale => Some("disk: stale"),
            Disk::Torn => Some("disk: torn"),
            Disk::Flipped => Some("disk: bit flipped"),
            Disk::Intact | Disk::Lost => None,
        };
        damage.into_iter().for_each(|kind| self.run.fire(kind));
        let rng = &mut self.hosts[host].rng;
        match left {
            Disk::Torn => bytes.truncate(rng.index(bytes.len())),
            Disk::Flipped => {
                let at = rng.index(bytes.len());
                bytes[at] ^= 1 << rng.index(8);
            }
            Disk::Intact | Disk::Stale | Disk::Lost => {}
        }
        let parsed = Book::parse(&bytes, stored.limits(), |_| true);
        // What was damaged once stays in the file as it is.
        let is_whole = !self.hosts[host].disk.was_damaged;
        let is_same = match &parsed {
            Ok((book, rejected)) => rejected.is_empty() && book.emit() == bytes,
            Err(_) => false,
        };
        let holds = !is_whole || is_same;
        self.run.checks.hold(Invariant::BookSurvives, (self.run.now, host), holds, || {
            ("the address book was stored whole".into(), format!("read back: {parsed:?}"))
        });
        let now = self.run.at();
        if let (Ok((book, _)), Some(node)) = (parsed, self.hosts[host].node.as_mut()) {
            node.load_book(now, book);
            self.input_of_node(host, Kind::Book, (u64_of(bytes.len()), 0));
        }
        if left == Disk::Intact {
            self.check_bans_survived(host);
        }
        self.forget_bans(host, left);
    }

    /// A ban that was stored is still there.
    fn check_bans_survived(&mut self, host: usize) {
        for peer in 0..self.hosts.len() {
            let Some(ban) = self.hosts[host].banned[peer] else {
                continue;
            };
            let holds = !ban.is_durable
                || !self.hosts.ban_holds(self.run, host, peer)
                || self.hosts.is_blacklisted(host, peer) == Some(true);
            self.run.checks.hold(Invariant::BanHolds, (self.run.now, host), holds, || {
                (format!("the ban of {peer} was stored"), "after a restart it is gone".into())
            });
        }
    }

    /// A disk that is not intact may have lost bans, or have old ones: what is, counts.
    ///
    /// A ban that has ended by the clock may be in the book, and hold again when that is set back.
    fn forget_bans(&mut self, host: usize, left: Disk) {
        let (now, wall) = (self.run.now, self.hosts.wall_micros(self.run, host));
        let unknown = Ban { until: Some(0), is_durable: true, ..Ban::since(now) };
        for peer in 0..self.hosts.len() {
            let is_banned = self.hosts.is_blacklisted(host, peer) == Some(true);
            let ban = &mut self.hosts[host].banned[peer];
            match (is_banned, ban.as_mut()) {
                (false, Some(ban)) if ban.until.is_some_and(|until| until <= wall) => {
                    ban.has_ended = true;
                }
                (false, _) if left == Disk::Stale => {
                    *ban = Some(Ban { has_ended: true, ..unknown });
                }
                (false, _) => *ban = None,
                (true, None) => *ban = Some(unknown),
                (true, Some(_)) => {}
            }
        }
    }

    pub(super) fn set_wall_clock(&mut self, host: usize, by: i64) {
        // A ban that has ended may be forgotten, or hold again when the clock is set back.
        let wall = self.hosts.wall_micros(self.run, host);
        for ban in self.hosts[host].banned.iter_mut().flatten() {
            ban.has_ended |= ban.until.is_some_and(|until| until <= wall);
        }
        self.hosts[host].wall = self.hosts[host].wall.saturating_add(by) % FAR;
        if self.hosts[host].node.is_some() {
            self.run.fire("clock jump");
            self.set_wall_time(host);
        }
        // What was reported while it had ended was no offence against one that holds again.
        for peer in 0..self.hosts.len() {
            if self.hosts[host].banned[peer].is_some_and(|ban| ban.has_ended)
                && self.hosts.ban_holds(self.run, host, peer)
                && let Some(ban) = &mut self.hosts[host].banned[peer]
            {
                ban.since = self.run.now;
            }
        }
    }

    fn set_wall_time(&mut self, host: usize) {
        let (now, wall) = (self.run.at(), wall_time(self.hosts.wall_micros(self.run, host)));
        if let Some(node) = self.hosts[host].node.as_mut() {
            node.set_wall_time(now, wall);
            self.input_of_node(host, Kind::Wall, (0, 0));
        }
    }
}

impl World {
    /// Bans a peer, for ever or by the wall clock for so many microseconds.
    pub(super) fn ban(&mut self, by: usize, of: usize, lasts: Option<u64>) {
        let now = self.run.at();
        let until = lasts
            .map(|lasts| self.hosts.wall_micros(&self.run, by) + i64::try_from(lasts).unwrap_or(0));
        let key = self.hosts[of].key;
        if let Some(node) = self.hosts[by].node.as_mut() {
            // What is due comes first, and is reported first.
            node.handle_timeout(now);
            self.nodes().input_of_node(by, Kind::NodeTimer, (0, 0));
            self.drain_node(by);
        }
        let Some(node) = self.hosts[by].node.as_mut() else {
            return;
        };
        let banned = node.blacklist(now, key, until.map(wall_time));
        self.nodes().input_of_node(by, Kind::Ban, (u64_of(of), u64::from(banned.is_ok())));
        self.checker().check_critical(by, banned.is_ok());
        if banned.is_ok() {
            self.run.fire("ban");
            for link in self.net.links_between(by, of) {
                self.net.touch_link(link);
            }
            let mut ban = Ban::since(self.run.now);
            ban.until = until;
            self.hosts[by].banned[of] = Some(ban);
        }
    }

    /// Notes that a step that meets the disk was made.
    pub(super) fn fill_disk(&mut self, host: usize, until: u64) {
        self.run.note(host, NOWHERE, Kind::Fault, (0, 0));
        self.hosts[host].disk_full_until = until;
    }
}

fn wall_time(micros: i64) -> WallTime {
    let nanos = u32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    WallTime::from_unix(micros.div_euclid(1_000_000), nanos).unwrap_or(WallTime::UNIX_EPOCH)
}

/// Wall clocks are wrong by less than about ten years.
const FAR: i64 = 300_000_000_000_000;
