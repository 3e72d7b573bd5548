"""A whole session of one side: calls, control channel, named substreams, end (§8.8, §9, §11.2).

Substreams are handles of the transport. Wanted of the transport, in `actions`: `("open", name)`,
`("write", handle, bytes)`, `("fin", handle)`, `("reset", handle, code)`, `("close", code)`.
The handle of the handshake substream is `CONTROL`.
"""

from . import wire
from .codes import Code, Misuse, Reset, SessionError, SubstreamReset
from .control import Control, Over
from .frames import Count
from .kex import SUITES
from .receiving import AHEAD, Incoming
from .sending import Outgoing

CONTROL = "control"
DRAIN, ANSWER, SETTLE = 5_000, 3_000, 5_000
UNREAD_PER_NAME, SUBSTREAMS, PREAMBLE, PREAMBLE_MS = 3, 64, 12, 10_000


class Session:
    def __init__(self, config, is_i, peer_id=None, now=0, send_again=True):
        self.config, self.send_again = config, send_again
        self.control = Control(config, is_i, peer_id, now)
        self.state = "admitted"
        self.names = set()
        self.offers = {}  # handle -> [name, Source, time since when it is read, number or None]
        self.incoming, self.outgoing = {}, {}
        self.writing = {}  # handle -> [name, instance, whether FIN was written, peer's FIN seen]
        self.opening = set()
        self.received, self.handshake_messages, self.reports = [], [], []
        self.queue_room = 1 << 30
        self.closing = None  # step of §9.2 and its time
        self.answered = self.quiet = False
        self.peer_counts = self.end_code = None
        self.control_lost = False
        self.abandon_times = []
        self.actions = []

    # Calls.

    def connected(self):
        if self.state == "admitted":
            self.state = "connected"
            self.control.connect()

    def send_handshake(self, message):
        self.control.send(message)

    def prepare(self, key, names=(), now=0):
        if self.state not in ("connected", "prepared"):
            raise Misuse("prepare")
        if not all(wire.is_name(name) for name in names):
            raise Misuse("name")
        self.control.check_key(key)
        self.names |= set(names)
        if self.state == "connected":
            self.state = "prepared"
        self._guard(now, self.control.prepare, key)

    def finalize(self, now):
        if self.state != "prepared":
            raise Misuse("finalize")
        self.control.finalize()
        self.state = "finalized"
        self._establish(now)

    def send(self, name, message):
        if self.state != "established" or name not in self.outgoing or self.closing:
            raise Misuse("send")
        self.outgoing[name].send(message)

    def close(self, now):
        if self.state != "established":
            self.end(Code.DONE, now)
        elif self.closing is None:
            self.closing = ("drain", now)

    def stays(self):
        """Whether this side is Established, and does not end the session by itself (§3.4)."""
        return self.state == "established" and (self.closing is None or self.answered)

    def reject(self, now):
        self.end(Code.REJECTED, now)

    # Substreams.

    def offer(self, handle, name, source, now):
        """A substream of the peer; whether its name is accepted."""
        known = self.names if self.state == "established" else {*self.names, *self.config.names}
        if self.state == "closed" or name not in known or self.control.gate == "over":
            return False
        if len(self.offers) >= SUBSTREAMS:
            self.actions.append(("reset", handle, Reset.LIMIT_REACHED))
            return True
        same = [o for o in self.offers.values() if o[0] == name]
        if self.state != "established" and len(same) >= UNREAD_PER_NAME:
            return False
        self.offers[handle] = [name, source, now if self.state == "established" else None, None]
        return True

    def agreed(self, handle, name, now):
        """The peer accepted the substream that was asked for."""
        self.opening.discard(name)
        out = self.outgoing[name]
        self.writing[handle] = [name, out.turn, False, False]
        self.actions.append(("write", handle, out.opened()))

    def refused(self, name, now):
        self.opening.discard(name)
        self.outgoing[name].refused(now)

    def reverse(self, handle, what, now):
        """Bytes, FIN or a reset on the peer's half of a substream that this side opened."""
        if handle not in self.writing:
            return
        name, number, ended, _ = self.writing[handle]
        if what == "fin":
            self.writing[handle][3] = ended
            if ended:
                del self.writing[handle]
                self.outgoing[name].settled(number)
            return
        if what == "bytes":
            self.actions.append(("reset", handle, Reset.REVERSE_BYTES))
        del self.writing[handle]
        self.outgoing[name].broke(number, now)

    def control_ended(self, now):
        """FIN or reset of the handshake substream, all bytes before it having been received."""
        if self.state == "closed" or self.control.gate == "over":
            return
        self.control_lost = True
        if self.state != "established":
            self.end(Code.HANDSHAKE_FAILED, now)

    def receive(self, data, now):
        """Bytes of the handshake substream."""
        if self.state != "closed":
            self._guard(now, self.control.receive, data, now)

    # Work.

    def poll(self, now):
        """Reads and writes whatever is possible now."""
        if self.state == "closed":
            return
        self.handshake_messages += self.control.messages()
        self._guard(now, self.control.advance, now)
        self._establish(now)
        self._guard(now, self._read, now)
        if self.state == "established":
            self._close_steps(now)
            self._write(now)
        self._flush(now)

    def _guard(self, now, work, *arguments):
        if self.state == "closed":
            return
        try:
            work(*arguments)
        except SessionError as error:
            self.reports.append(("error", error.code, str(error)))
            self.end(error.code, now)
        except Over as over:
            self._peer_closed(over, now)

    def _establish(self, now):
        control = self.control
        if self.state != "finalized" or not control.verified:
            return
        self.state = "established"
        aead = SUITES[control.suite]
        for name in sorted(self.names):
            root_in = control.schedule.root(control.peer_direction, name)
            root_out = control.schedule.root(control.own_direction, name)
            limit = self.config.message_limit
            self.incoming[name] = Incoming(aead, root_in, limit, self._room)
            self.outgoing[name] = Outgoing(name, control.sid, aead, root_out, self.send_again)
        control.schedule = None if control.schedule is None else "wiped"
        for handle, offer in list(self.offers.items()):
            offer[2] = now
            if offer[0] not in self.names:
                del self.offers[handle]
                self.actions.append(("reset", handle, Reset.REFUSED))

    def _room(self):
        return self.queue_room - len(self.received)

    def _read(self, now):
        if self.state != "established":
            self._early_abandons()
            return
        for instance, name in self.control.abandoned:
            if name in self.incoming:
                self.incoming[name].abandon(instance, now)
        self.control.abandoned.clear()
        for handle, offer in list(self.offers.items()):
            if offer[3] is None:
                self._read_preamble(handle, offer, now)
        for name, incoming in self.incoming.items():
            incoming.advance(now)
            self._events(name, incoming)

    def _early_abandons(self):
        """ABANDON before Established: kept for the names that are prepared by now."""
        kept = [item for item in self.control.abandoned if item[1] in self.names]
        if any(instance > AHEAD for instance, _ in kept):
            raise SessionError(Code.INSTANCE, "ABANDON too far ahead")
        self.control.abandoned = kept

    def _read_preamble(self, handle, offer, now):
        name, source, since, _ = offer
        try:
            if source.reset or source.fin and len(source.data) < PREAMBLE:
                del self.offers[handle]
            elif len(source.data) >= PREAMBLE:
                head = bytes(source.data[:PREAMBLE])
                del source.data[:PREAMBLE]
                if head[:8] != self.control.sid[:8]:
                    raise SubstreamReset(Reset.WRONG_SESSION)
                offer[3] = int.from_bytes(head[8:], "big")
                self.incoming[name].preamble(offer[3], source, now)
            elif now - since >= PREAMBLE_MS:
                raise SubstreamReset(Reset.REFUSED)
        except SubstreamReset as reset:
            del self.offers[handle]
            self.actions.append(("reset", handle, reset.code))

    def _handle(self, source):
        return next(h for h, offer in self.offers.items() if offer[1] is source)

    def _events(self, name, incoming):
        for event in incoming.events:
            what = event[0]
            if what == "message":
                if not self.quiet:
                    self.received.append((name, event[2]))
            elif what == "acknowledge":
                self.actions.append(("fin", self._handle(event[1])))
            elif what == "reset":
                self.actions.append(("reset", self._handle(event[1]), event[2]))
            if what not in ("message", "acknowledge", "reset"):
                self.reports.append((what, name, *event[1:]))
        incoming.events.clear()
        alive = [incoming.reading.source] if incoming.reading else []
        alive += incoming.parked.values()
        for handle, offer in list(self.offers.items()):
            if offer[0] == name and offer[3] is not None and all(offer[1] is not s for s in alive):
                del self.offers[handle]

    def _write(self, now):
        for name, out in self.outgoing.items():
            if self.answered:
                return
            if out.wants_substream(now) and name not in self.opening:
                self.opening.add(name)
                self.actions.append(("open", name))
        for handle, writing in self.writing.items():
            name, number, ended, _ = writing
            out = self.outgoing[name]
            if ended or number != out.turn - 1:
                continue
            while out.has_more():
                self.actions.append(("write", handle, out.pull(now)))
            if self.closing and not writing[2]:
                self.actions += [("write", handle, out.close(now)), ("fin", handle)]
                writing[2] = True

    def end_instance(self, name, now):
        """Closes the instance of a stream that is written now, if there is one."""
        out = self.outgoing[name]
        for handle, writing in self.writing.items():
            if writing[0] == name and not writing[2] and writing[1] == out.turn - 1:
                while out.has_more():
                    self.actions.append(("write", handle, out.pull(now)))
                self.actions += [("write", handle, out.close(now)), ("fin", handle)]
                writing[2] = True

    def _flush(self, now):
        """Control channel: ABANDON at most 16 a second, then what is queued."""
        if self.control_lost:
            return
        for out in self.outgoing.values():
            while out.abandons and not self.control.last_written:
                self.abandon_times = [t for t in self.abandon_times if now - t < 1000]
                if len(self.abandon_times) >= 16:
                    break
                self.abandon_times.append(now)
                self.control.write(out.abandons.pop(0))
        data = self.control.take(now)
        if data:
            self.actions.append(("write", CONTROL, data))

    # End.

    def counts(self):
        return {
            name: Count(self.outgoing[name].given, incoming.next, incoming.lost)
            for name, incoming in self.incoming.items()
        } | {name: Count(0, 0, 0) for name in self.names if name not in self.incoming}

    def _close_steps(self, now):
        if self.closing is None:
            return
        step, since = self.closing
        if step == "drain":
            idle = not any(o.queue or o.has_more() and o.sealer for o in self.outgoing.values())
            open_ = any(not w[2] for w in self.writing.values()) or self.opening
            if idle and not open_ or now - since >= DRAIN:
                self._send_close(now)
                self.closing = ("settle", now)
        elif step == "settle" and (self.peer_counts is not None or now - since >= SETTLE):
            self._finish(Code.DONE)
        elif step == "answer":
            reached = all(
                name not in self.incoming or self.incoming[name].next >= count.sent
                for name, count in self.peer_counts.items()
            )
            if reached or now - since >= ANSWER:
                self._send_close(now)
                self._finish(Code.DONE)

    def _send_close(self, now):
        self.control.end(Code.DONE, self.counts(), now)
        self._flush(now)
        self.actions.append(("fin", CONTROL))
        self.quiet = True

    def _peer_closed(self, over, now):
        self.peer_counts = over.counts
        if over.counts is None or over.code != Code.DONE or self.state != "established":
            self.control.last_written = True  # no answer
            self._finish(over.code)
        elif self.closing is None or self.closing[0] == "drain":
            self.answered = True
            self.closing = ("answer", now)

    def end(self, code, now):
        """§9.3."""
        if self.state == "closed":
            return
        self.control.end(code, self.counts(), now)
        self._flush(now)
        self.actions.append(("fin", CONTROL))
        self._finish(code)

    def _finish(self, code):
        self.state, self.end_code, self.quiet = "closed", code, True
        for handle in [*self.offers, *self.writing]:
            self.actions.append(("reset", handle, Reset.CLOSED))
        self.actions.append(("close", code))
