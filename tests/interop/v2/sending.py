"""One direction of one stream at its sender: instances, numbers, sending again (§8.3 to §8.7)."""

from collections import deque

from .codes import Code, Misuse
from .frames import abandon
from .messages import message
from .record import CLOSED, DATA, FULL_SLICE, OPEN, Sealer
from .schedule import Roots
from .wire import u8, u16, u32, u64

NONE, CLOSED_BEFORE, BROKEN = 0, 1, 2
FIRST_WAIT, LONGEST_WAIT = 100, 10_000


class Outgoing:
    """The owner opens a substream when `wants_substream`, then writes what `opened`, `pull` and
    `close` give, and tells how it ended by `broke` or `settled`.
    """

    def __init__(self, name, sid, aead, root, send_again=True):
        self.name, self.sid, self.aead, self.roots = name, sid, aead, Roots(root)
        self.send_again = send_again
        self.turn = 0  # number of the next instance
        self.given = 0  # number of the next message that gets one
        self.queue = deque()  # (number or None, message)
        self.rest = b""  # of the message that is being written
        self.last = NONE
        self.last_first = 0
        self.last_messages = []  # (number, message) of the last instance
        self.last_is_settled = True
        self.written = {}  # instance -> numbers, while it is not settled
        self.unsure = set()  # numbers of messages that are not known to have arrived
        self.sealer = None  # of the instance that is written now
        self.opened_record = False
        self.retry_at, self.wait = 0, FIRST_WAIT
        self.abandons = []

    def send(self, data):
        self.queue.append((None, data))

    @property
    def first(self):
        """Number of the first message of an instance that would begin now."""
        return self.given if not self.queue or self.queue[0][0] is None else self.queue[0][0]

    def wants_substream(self, now):
        return bool(self.queue) and self.sealer is None and now >= self.retry_at

    def refused(self, now):
        """The substream was refused or failed before its preamble: no number is used up."""
        self.retry_at, self.wait = now + self.wait, min(2 * self.wait, LONGEST_WAIT)

    def opened(self):
        """Preamble of the next instance; its number is used up."""
        if self.turn > 2**32 - 1:
            raise Misuse("no instance left")
        number, first = self.turn, self.first
        assert first >= self.last_first
        self.sealer = Sealer(self.aead, self.roots.step())
        self.opening = u32(number) + u64(first) + u8(self.last)
        self.opened_record = False
        self.turn += 1
        self.last_first, self.last_messages, self.last_is_settled = first, [], False
        self.rest, self.written[number] = b"", []
        return self.sid[:8] + u32(number)

    def pull(self, now=0, most=FULL_SLICE, last=False):
        """The next record, empty if there is nothing to write. `last` ends the epoch."""
        if not self.opened_record:
            self.opened_record = True
            return self.sealer.seal(OPEN, self.opening, now, last)
        slice_ = bytearray()
        while len(slice_) < most:
            if not self.rest:
                if not self.queue:
                    break
                self.rest = self._next()
            part = self.rest[: most - len(slice_)]
            self.rest = self.rest[len(part) :]
            slice_ += part
        return self.sealer.seal(DATA, bytes(slice_), now, last) if slice_ else b""

    def _next(self):
        number, data = self.queue.popleft()
        if number is None:
            number = self.given
            self.given += 1
        self.last_messages.append((number, data))
        self.written[self.turn - 1].append(number)
        self.unsure.add(number)
        return message(data)

    def has_more(self):
        return not self.opened_record or bool(self.rest) or bool(self.queue)

    def close(self, now=0):
        """The close record; FIN has to follow."""
        assert not self.has_more() or self.opened_record and not self.rest
        record = self.sealer.seal(CLOSED, u16(Code.DONE), now)
        self.sealer, self.last = None, CLOSED_BEFORE
        return record

    def settled(self, number):
        """All of an instance is known to have arrived."""
        self.unsure.difference_update(self.written.pop(number))
        if number == self.turn - 1:
            self.last_is_settled, self.last_messages = True, []
        self.wait = FIRST_WAIT

    def broke(self, number, now):
        """The substream of an instance ended otherwise than by close, FIN and acknowledgement."""
        self.abandons.append(abandon(number, self.name))
        if number != self.turn - 1 or self.last_is_settled:
            return
        self.sealer, self.rest, self.last = None, b"", BROKEN
        self.refused(now)
        if self.send_again:
            # Those of an earlier instance that this one was to repeat and did not reach are still in
            # the queue, behind them.
            self.queue.extendleft(reversed(self.last_messages))
        self.last_messages, self.last_is_settled = [], True

    def in_doubt(self, peer=None):
        """How many sent messages may or may not have arrived, by the peer's Count or without it."""
        if peer is None:
            return len(self.unsure)
        below = sum(1 for number in self.unsure if number < peer.next)
        return 0 if peer.lost in (0, below) else below
