"""Two sessions over a link in memory that cuts the bytes at random places."""

from .receiving import Source
from .session import CONTROL


class Half:
    """One direction of a substream: bytes on the way, then their end."""

    def __init__(self):
        self.data, self.fin, self.reset = bytearray(), False, None


class Substream:
    def __init__(self, number, opener, name):
        self.number, self.opener, self.name = number, opener, name
        self.halves = [Half(), Half()]  # from the opener, from the acceptor
        self.source = Source()
        self.accepted = None


class Link:
    """`random` is a random.Random; `most` bytes at once are delivered."""

    def __init__(self, i, r, random, most=5_000):
        self.sessions, self.random, self.most = [i, r], random, most
        self.control = [Half(), Half()]
        self.substreams = []
        self.wrote = [bytearray(), bytearray()]
        self.now = 0

    def _actions(self, side):
        session = self.sessions[side]
        for action in session.actions:
            what, *rest = action
            if what == "open":
                self.substreams.append(Substream(len(self.substreams), side, rest[0]))
            elif what == "close":
                pass
            elif rest[0] == CONTROL:
                if what == "write":
                    self.control[side].data += rest[1]
                    self.wrote[side] += rest[1]
                else:
                    self.control[side].fin = True
            else:
                stream = self.substreams[rest[0]]
                half = stream.halves[side != stream.opener]
                if what == "write":
                    half.data += rest[1]
                elif what == "fin":
                    half.fin = True
                else:
                    stream.halves[0].reset = stream.halves[1].reset = rest[1]
        session.actions.clear()

    def _cut(self, half):
        n = min(len(half.data), self.random.randint(0, self.most))
        out = bytes(half.data[:n])
        del half.data[:n]
        return out

    def _deliver_control(self, side):
        half, to = self.control[side], self.sessions[1 - side]
        if to.control.wants():
            data = self._cut(half)
            if data:
                to.receive(data, self.now)
        if not half.data and half.fin:
            to.control_ended(self.now)

    def _deliver(self, stream):
        opener, other = self.sessions[stream.opener], self.sessions[1 - stream.opener]
        if stream.accepted is None:
            stream.accepted = other.offer(stream.number, stream.name, stream.source, self.now)
            if stream.accepted:
                opener.agreed(stream.number, stream.name, self.now)
            else:
                opener.refused(stream.name, self.now)
            return
        forth, back = stream.halves
        if forth.reset is not None:
            stream.source.reset = True
            opener.reverse(stream.number, "reset", self.now)
            return
        stream.source.data += self._cut(forth)
        stream.source.fin = forth.fin and not forth.data
        if back.data:
            opener.reverse(stream.number, "bytes", self.now)
        elif back.fin:
            opener.reverse(stream.number, "fin", self.now)

    def step(self, ms=1):
        self.now += ms
        sides = [0, 1]
        self.random.shuffle(sides)
        for side in sides:
            self.sessions[side].poll(self.now)
            self._actions(side)
        for side in sides:
            self._deliver_control(side)
        for stream in list(self.substreams):
            if stream.accepted is not False and self.random.random() < 0.8:
                self._deliver(stream)

    def run(self, until, steps=20_000, ms=1):
        for _ in range(steps):
            if until():
                return
            self.step(ms)
        raise AssertionError("the sessions do not get there")

    def break_substream(self, stream):
        """The transport loses a substream with what is on its way."""
        stream.halves[0].data.clear()
        stream.halves[0].reset = stream.halves[1].reset = 0
