"""Named substreams that a receiver accepts, and what it then reports."""

from ..frames import abandon
from ..kex import SUITES
from ..messages import message
from ..record import CLOSED, DATA, OPEN, PADDED, Sealer, pad
from ..schedule import Roots
from ..wire import u8, u16, u32, u64
from . import handshakes
from .replay import UnderTest
from .sides import LONG_NAME, pattern

CLOSE_SLICE = u16(0)
RUNS = {run.name: run for run in handshakes.runs()}


class Case:
    """The receiver is a whole session behind a handshake of handshakes.json; the sender is by hand."""

    def __init__(self, name, about, handshake="plain", direction=0, stream=b"chat", limit=None):
        self.name, self.about, self.handshake = name, about, handshake
        self.direction, self.stream, self.limit = direction, stream, limit
        run = RUNS[handshake]
        self.under_test = UnderTest.after(run, "r" if direction == 0 else "i")
        if limit is not None:
            for incoming in self.under_test.session.incoming.values():
                incoming.limit = limit
        schedule = run.sides["i"].schedule
        self.sid, self.aead = schedule.sid(), SUITES[run.sides["i"].suite]
        self.root = schedule.root(direction, stream)
        self.control = Sealer(self.aead, schedule.control(direction))
        for record in run.sides["i" if direction == 0 else "r"].trace:
            self.control.count(len(record["record"]) - 2)
        self.trace, self.steps, self.sealers = [], [], {}

    # Steps.

    def _step(self, **step):
        # A session that has ended before the last step is a mistake of the case.
        assert all("then_ended" not in s for s in self.steps), self.name
        self.steps.append(step | self.under_test.seen())

    def agree(self, key, stream=None):
        accepted = self.under_test.offer(key, stream or self.stream)
        name = (stream or self.stream).decode()
        self._step(substream=key, agreed=name, then_accepted=accepted)

    def bytes(self, key, data):
        self.under_test.substream(key, data)
        self._step(substream=key, bytes=data)

    def end(self, key, how):
        self.under_test.ends(key, how)
        self._step(substream=key, end=how)

    def wait(self, ms):
        self.under_test.wait(ms)
        self._step(wait=ms)

    def control_frame(self, data):
        record = self.control.seal(DATA, data)
        self.under_test.reads(record)
        self._step(control_frame=data, control_record=record)

    def abandon(self, instance, stream=None):
        self.control_frame(abandon(instance, stream or self.stream))

    # Several steps.

    def sealer(self, number):
        roots = Roots(self.root)
        for _ in range(number):
            roots.step()
        return Sealer(self.aead, roots.step(), self.trace)

    def preamble(self, key, number, sid=None):
        self.agree(key)
        if number < 2000:  # no case goes further than this behind a preamble
            self.sealers[key] = self.sealer(number)
        self.bytes(key, (sid or self.sid)[:8] + u32(number))

    def opening(self, key, number, first=0, last=None, flag=False):
        last = (0 if number == 0 else 1) if last is None else last
        self.record(key, OPEN, u32(number) + u64(first) + u8(last), flag)

    def begin(self, key="s0", number=0, first=0, last=None, flag=False):
        self.preamble(key, number)
        self.opening(key, number, first, last, flag)

    def record(self, key, kind, content, flag=False):
        self.bytes(key, self.sealers[key].seal(kind, content, last=flag))

    def data(self, key, *messages):
        self.record(key, DATA, b"".join(message(m) for m in messages))

    def finish(self, key="s0", how="fin"):
        self.record(key, CLOSED, CLOSE_SLICE)
        self.end(key, how)

    def case(self):
        counts = self.under_test.session.counts()[self.stream]
        made = {
            "name": self.name,
            "about": self.about,
            "handshake": self.handshake,
            "direction": self.direction,
            "stream": self.stream.decode(),
            "aead": self.aead,
            "sid": self.sid,
            "root": self.root,
        }
        if self.limit is not None:
            made["message_limit"] = self.limit
        made |= {"steps": self.steps, "records": self.trace}
        return made | {"next": counts.next, "lost": counts.lost}


def simple(name, about, **more):
    case = Case(name, about, **more)
    case.begin()
    case.data("s0", b"hello", b"")
    case.record("s0", DATA, message(b"world")[:3])
    case.record("s0", DATA, message(b"world")[3:])
    case.finish()
    return case


def simples():
    yield simple("simple", "one instance from I to R")
    yield simple("from-r", "from R to I", direction=1)
    yield simple("roles-changed", "I has the smaller identity", handshake="kex-r-first")
    yield simple("shortest-name", "name of 1 byte", stream=b"a")
    yield simple("longest-name", "name of 64 bytes", stream=LONG_NAME, direction=1)
    for handshake in ("aes-exporter", "hybrid-chacha", "hybrid-aes"):
        yield simple(handshake, f"behind the handshake {handshake}", handshake=handshake)


def shapes():
    case = Case("several-records", "a message of 300 bytes in four records")
    case.begin()
    whole = message(pattern(300))
    for at in range(0, len(whole), 100):
        case.record("s0", DATA, whole[at : at + 100])
    case.finish()
    yield case
    case = Case("full-records", "a message of 17,000 bytes; then the longest record there is")
    case.begin()
    whole = message(pattern(17_000))
    case.record("s0", DATA, whole[:16_384])
    case.record("s0", DATA, whole[16_384:])
    case.record("s0", DATA, message(pattern(16_620)))
    case.finish()
    yield case
    case = Case("many-messages", "100 messages in one record, one of them cut by its end")
    case.begin()
    stream = b"".join(message(pattern(n % 7, n)) for n in range(100)) + message(b"last")
    case.record("s0", DATA, stream[:-2])
    case.record("s0", DATA, stream[-2:])
    case.finish()
    yield case
    case = Case("empty-records", "empty data records, an instance without a message")
    case.begin()
    case.record("s0", DATA, b"")
    case.record("s0", DATA, b"")
    case.finish()
    yield case
    case = Case("padding", "padded data: none, some and only zeros; across a message")
    case.begin()
    whole = message(b"hello") + message(b"world")
    case.record("s0", PADDED, pad(whole[:3], 0))
    case.record("s0", PADDED, pad(whole[3:8], 13))
    case.record("s0", PADDED, pad(b"", 30))
    case.record("s0", PADDED, pad(b"", 0))
    case.record("s0", PADDED, u16(4) + whole[8:] + b"not zeros")
    case.finish()
    yield case
    case = Case("one-byte-chunks", "every byte arrives alone")
    case.begin()
    for byte in case.sealers["s0"].seal(DATA, message(b"hi")):
        case.bytes("s0", bytes([byte]))
    case.finish()
    yield case
    case = Case("message-limit", "a message of exactly the limit", limit=1000)
    case.begin()
    case.data("s0", pattern(1000))
    case.finish()
    yield case


def rekeys():
    case = Case("rekey", "0x80 on every kind of record, OPEN and close too")
    case.begin(flag=True)
    case.record("s0", DATA, message(b"one") + message(b"two")[:2], flag=True)
    case.record("s0", DATA, message(b"two")[2:])
    case.record("s0", PADDED, pad(message(b"three"), 9), flag=True)
    case.record("s0", DATA, b"", flag=True)
    case.record("s0", DATA, message(b"four"))
    case.record("s0", CLOSED, CLOSE_SLICE, flag=True)
    case.end("s0", "fin")
    yield case
    case = Case("rekey-aes", "the same with AES-256-GCM", handshake="aes-exporter", direction=1)
    case.begin(flag=True)
    case.record("s0", DATA, message(b"one"), flag=True)
    case.data("s0", b"two")
    case.finish()
    yield case


def ends():
    case = Case("how-the-last-ended", "OPEN with last 0, 1 and 2")
    case.begin("s0", 0, 0, 0)
    case.data("s0", b"first")
    case.finish("s0")
    case.begin("s1", 1, 1, 1)
    case.data("s1", b"second")
    case.end("s1", "reset")
    case.begin("s2", 2, 2, 2)
    case.data("s2", b"third")
    case.finish("s2")
    yield case
    case = Case("close-then-reset", "a reset behind the close record is a clean end")
    case.begin()
    case.data("s0", b"hello")
    case.finish("s0", "reset")
    yield case
    case = Case("close-code", "a close record with another code is a clean end too")
    case.begin()
    case.record("s0", CLOSED, u16(5))
    case.end("s0", "fin")
    yield case
    case = Case("fin-without-close", "a truncation between two messages")
    case.begin()
    case.data("s0", b"hello")
    case.end("s0", "fin")
    yield case
    case = Case("fin-in-message", "a truncation in a message, behind half a record")
    case.begin()
    case.record("s0", DATA, message(b"hello")[:3])
    case.bytes("s0", case.sealers["s0"].seal(DATA, b"lo")[:9])
    case.end("s0", "fin")
    yield case
    case = Case("reset-behind-preamble", "a truncation without OPEN; the next instance goes on")
    case.preamble("s0", 0)
    case.end("s0", "reset")
    case.begin("s1", 1, 0, 2)
    case.data("s1", b"hello")
    case.finish("s1")
    yield case


def numbers():
    case = Case("send-again", "all messages of a broken instance again; the cut one keeps its number")
    case.begin("s0")
    case.record("s0", DATA, message(b"zero") + message(b"one") + message(b"two")[:2])
    case.end("s0", "reset")
    case.begin("s1", 1, 0, 2)
    case.data("s1", b"zero", b"one", b"two", b"three")
    case.finish("s1")
    yield case
    case = Case("send-again-part", "from the second message on; the third is new")
    case.begin("s0")
    case.data("s0", b"zero", b"one")
    case.end("s0", "fin")
    case.begin("s1", 1, 1, 2)
    case.data("s1", b"one", b"two")
    case.finish("s1")
    yield case
    case = Case("give-up", "the cut message is given up and uses its number up")
    case.begin("s0")
    case.record("s0", DATA, message(b"zero") + message(b"one")[:1])
    case.end("s0", "reset")
    case.begin("s1", 1, 2, 2)
    case.data("s1", b"two")
    case.finish("s1")
    yield case
    case = Case("give-up-many", "a first message far ahead, in the last instance of the number 2^63 - 1")
    case.begin("s0")
    case.end("s0", "reset")
    case.begin("s1", 1, 2**63 - 1, 2)
    case.data("s1", b"far")
    case.finish("s1")
    yield case
    case = Case("send-again-broken", "the repetition breaks inside the repeated messages")
    case.begin("s0")
    case.data("s0", b"zero", b"one", b"two")
    case.end("s0", "reset")
    case.begin("s1", 1, 0, 2)
    case.data("s1", b"zero")
    case.end("s1", "reset")
    case.begin("s2", 2, 0, 2)
    case.data("s2", b"zero", b"one", b"two", b"three")
    case.finish("s2")
    yield case


def cases():
    parts = (simples(), shapes(), rekeys(), ends(), numbers())
    return [case.case() for part in parts for case in part]


def boundaries():
    """Every place at which the end of a record can cut the message stream."""
    short = [b"abc", b"", b"x", b"", b"", b"yz"]
    stream, out = b"".join(message(m) for m in short), []
    for at in range(len(stream) + 1):
        case = Case(f"cut-{at}", f"six short messages, the record ends behind byte {at}")
        case.begin()
        case.record("s0", DATA, stream[:at])
        case.record("s0", DATA, stream[at:])
        case.finish()
        out.append(case.case())
    stream = message(b"a") + message(pattern(128)) + message(b"b")
    for at in (2, 3, 4, 5, 131, 132, 133):
        case = Case(f"cut-long-{at}", f"a length of two bytes, the record ends behind byte {at}")
        case.begin()
        case.record("s0", DATA, stream[:at], flag=True)
        case.record("s0", DATA, stream[at:])
        case.finish()
        out.append(case.case())
    stream = message(pattern(16_384)) + message(b"b")
    case = Case("cut-longer-2", "a length of three bytes, the record ends behind byte 2")
    case.begin()
    case.record("s0", DATA, stream[:2])
    case.record("s0", DATA, stream[2:])
    case.finish()
    out.append(case.case())
    case = Case("cut-everywhere", "a record for each byte")
    case.begin()
    for byte in b"".join(message(m) for m in short):
        case.record("s0", DATA, bytes([byte]))
    case.finish()
    return [*out, case.case()]
