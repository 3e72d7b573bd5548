"""One direction of one stream at its receiver: instances in order, numbers (§8.3 to §8.7)."""

from collections import deque
from dataclasses import dataclass, field

from .codes import Code, Reset, SessionError, SubstreamReset
from .messages import MessageReader
from .record import CLOSED, DATA, OPEN, Opener
from .schedule import Roots

AHEAD, PARKED, REMEMBERED, WAIT_MS = 1023, 2, 8, 10_000


@dataclass(eq=False)
class Source:
    """A substream of the peer as the transport offers it: bytes not read yet, and its end."""

    data: bytearray = field(default_factory=bytearray)
    fin: bool = False
    reset: bool = False

    def take(self):
        out = bytes(self.data)
        self.data.clear()
        return out


class Instance:
    """An instance that is being read."""

    def __init__(self, number, source, aead, secret, limit):
        self.number, self.source = number, source
        self.opener = Opener(aead, secret)
        self.reader = MessageReader(limit)
        self.opened = self.closed = False
        self.code = None
        self.count = 0  # number of the next message in it

    def record(self, kind, content, incoming):
        """Processes one record; messages go to `incoming`."""
        if self.closed:
            raise SessionError(Code.BAD_RECORD, "record behind a close record")
        if (kind == OPEN) == self.opened:
            raise SessionError(Code.BAD_RECORD, "OPEN missing or repeated")
        if kind == OPEN:
            self.opened = True
            self.count = incoming.open(self.number, content)
        elif kind == CLOSED:
            if len(content) != 2 or self.reader.inside:
                raise SessionError(Code.BAD_RECORD, "close record")
            self.closed, self.code = True, int.from_bytes(content, "big")
        else:
            assert kind == DATA
            for whole in self.reader.feed(content):
                incoming.pending.append((self.count, whole))
                self.count += 1


class Incoming:
    """`room()` tells how many messages the receive queue takes; what happens goes to `events`."""

    def __init__(self, aead, root, limit, room=lambda: 1 << 30):
        self.aead, self.roots, self.limit, self.room = aead, Roots(root), limit, room
        self.turn = self.next = self.lost = 0
        self.reading = None
        self.parked = {}  # instance -> Source
        self.abandoned = set()
        self.pending = deque()
        self.idle_since = self.stalled_since = None
        self.events = []

    # What arrives.

    def preamble(self, number, source, now):
        """A substream whose preamble has been read. May raise SubstreamReset."""
        if number in self.parked or self.reading and self.reading.number == number:
            raise SessionError(Code.INSTANCE, f"{number} twice")
        if number < self.turn:
            raise SubstreamReset(Reset.STALE)
        if number - self.turn > AHEAD:
            raise SessionError(Code.INSTANCE, f"{number} with turn {self.turn}")
        if number == self.turn and self.reading is None:
            self._begin(source)
        elif len(self.parked) == PARKED:
            raise SubstreamReset(Reset.PARKED)
        else:
            if not self.parked:
                self.stalled_since = now
            self.parked[number] = source
        self.advance(now)

    def abandon(self, number, now):
        if number < self.turn or number in self.parked:
            return
        if number - self.turn > AHEAD:
            raise SessionError(Code.INSTANCE, f"ABANDON {number} with turn {self.turn}")
        self.abandoned.add(number)
        if len(self.abandoned) > REMEMBERED:
            self.abandoned.remove(max(self.abandoned))
        self.advance(now)

    def open(self, number, content):
        """OPEN: its fields in the order of the table of §8.3; gives the first message's number."""
        if len(content) != 13:
            raise SessionError(Code.BAD_RECORD, "length of OPEN")
        instance, first = (int.from_bytes(content[a:b], "big") for a, b in ((0, 4), (4, 12)))
        last = content[12]
        if instance != number:
            raise SessionError(Code.INSTANCE, "OPEN differs from the preamble")
        if first >= 2**63 or number == 0 and first != 0:
            raise SessionError(Code.NUMBER, f"first message {first}")
        if last > 2 or (last == 0) != (number == 0):
            raise SessionError(Code.BAD_RECORD, f"last {last}")
        self.events.append(("opened", number, first, last))
        if first > self.next:
            self.lost += first - self.next
            self.events.append(("lost", first - self.next))
            self.next = first
        return first

    # Work.

    def advance(self, now):
        """Reads what can be read, begins and skips instances."""
        while True:
            if self.reading is not None:
                if not self._read(now):
                    return
            elif self.turn in self.parked:
                self._begin(self.parked.pop(self.turn))
            elif self.turn in self.abandoned:
                self._skip()
            elif not self._waited(now):
                return

    def _begin(self, source):
        secret = self.roots.step()
        self.reading = Instance(self.turn, source, self.aead, secret, self.limit)
        self.abandoned.discard(self.turn)
        self.turn += 1
        self.stalled_since = None

    def _skip(self):
        self.roots.step()
        self.abandoned.discard(self.turn)
        self.events.append(("skipped", self.turn))
        self.turn += 1

    def _waited(self, now):
        """10 s with an instance parked and none being read: skips to the lowest parked one."""
        if not self.parked:
            self.idle_since = None
            return False
        if self.idle_since is None:
            self.idle_since = now
        if now - self.idle_since < WAIT_MS:
            return False
        while self.turn < min(self.parked):
            self._skip()
        self.idle_since = None
        return True

    def _read(self, now):
        """Reads from the current instance; whether it is over."""
        self.idle_since = None
        instance, source, progress = self.reading, self.reading.source, False
        while True:
            if not self._hand_out():
                self.stalled_since = now  # not ready to read: no time runs
                return False
            record = instance.opener.next()
            if record is not None:
                instance.record(*record, self)
            elif source.reset:
                source.data.clear()
                return self._over()
            elif source.data:
                progress = True
                if instance.closed:
                    raise SessionError(Code.BAD_RECORD, "byte behind a close record")
                instance.opener.buffer += source.take()
                self._behind_close(instance)
            elif source.fin:
                return self._over()
            else:
                break
            self._behind_close(instance)
        if progress or self.stalled_since is None or not self.parked:
            self.stalled_since = now
        elif now - self.stalled_since >= WAIT_MS:
            self.events.append(("reset", source, Reset.ABANDONED))
            return self._over()
        return False

    def _behind_close(self, instance):
        if instance.closed and instance.opener.buffer:
            raise SessionError(Code.BAD_RECORD, "byte behind a close record")

    def _hand_out(self):
        """Puts messages into the receive queue; whether all of them had room."""
        while self.pending:
            number, whole = self.pending[0]
            if number < self.next:
                self.events.append(("repeated", number))
            elif self.room() > sum(event[0] == "message" for event in self.events):
                self.next = number + 1
                self.events.append(("message", number, whole))
            else:
                return False
            self.pending.popleft()
        return True

    def _over(self):
        instance, self.reading = self.reading, None
        if instance.closed:
            self.events.append(("closed", instance.number, instance.code))
            if instance.source.fin and not instance.source.reset:
                self.events.append(("acknowledge", instance.source))
        else:
            self.events.append(("truncated", instance.number, instance.reader.inside))
        return True
