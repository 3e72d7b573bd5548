"""What ends the session on a named substream or on the sealed control channel."""

from ..codes import Code
from ..frames import Count, abandon, close, frame
from ..record import CLOSED, DATA, OPEN, PADDED
from ..wire import u16, u32, u64
from .instances import whole
from .sides import LONG_NAME, pattern
from .streams import CLOSE_SLICE, Case, message

OPEN_0 = u32(0) + u64(0) + b"\0"


def flipped(data, at):
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


class Refused:
    """A case whose last step, made by `act(case)`, ends the session with `code`."""

    def __init__(self, name, code, about, act, before=lambda case: case.begin(), **more):
        self.name, self.code, self.about = name, code, about
        self.act, self.before, self.more = act, before, more

    def case(self):
        case = Case(self.name, self.about, **self.more)
        self.before(case)
        self.act(case)
        assert case.steps[-1].get("then_ended") == self.code, (self.name, case.steps[-1])
        return case.case() | {"code": int(self.code), "code_name": self.code.name}


def nothing(case):
    pass


def only_preamble(case):
    case.preamble("s0", 0)


def data(*slices, kind=DATA):
    def act(case):
        for content in slices:
            case.record("s0", kind, content)

    return act


def raw(data):
    return lambda case: case.bytes("s0", data)


def changed(change, content=b"\x05hello"):
    """A data record whose bytes are changed on the way."""
    return lambda case: case.bytes("s0", change(case.sealers["s0"].seal(DATA, content)))


def records():
    bad = Code.BAD_RECORD
    yield Refused("length-16", bad, "len 16, refused behind two bytes", raw(u16(16)))
    yield Refused("length-0", bad, "len 0", raw(u16(0)))
    yield Refused("length-16641", bad, "len 16,641, refused behind two bytes", raw(u16(16_641)))
    yield Refused("length-65535", bad, "the greatest len", raw(b"\xff\xff"))
    for kind in (4, 0x7F):
        yield Refused(f"type-{kind}", bad, "a type that does not exist", data(b"", kind=kind))
    yield Refused("type-132", bad, "type 4 with 0x80", data(b"", kind=0x84))
    yield Refused("padding-empty", bad, "padded slice of 0 bytes", data(b"", kind=PADDED))
    yield Refused("padding-1", bad, "padded slice of 1 byte", data(b"\0", kind=PADDED))
    slice_ = u16(4) + b"abc"
    yield Refused("padding-long", bad, "n = 4 with 3 bytes behind it", data(slice_, kind=PADDED))
    auth = Code.RECORD_AUTH
    yield Refused("tag", auth, "a bit of the tag", changed(lambda r: flipped(r, -1)))
    yield Refused("ciphertext", auth, "a bit of the ciphertext", changed(lambda r: flipped(r, 5)))
    yield Refused("type-byte", auth, "a bit of the type", changed(lambda r: flipped(r, 2)))
    shorter = changed(lambda r: u16(len(r) - 3) + r[2:-1])
    yield Refused("shorter", auth, "len one less, last byte cut off", shorter)
    yield Refused("repeated", auth, "a record twice", lambda c: twice(c))
    yield Refused("order", auth, "the second record before the first", lambda c: swapped(c))
    yield Refused("old-epoch", auth, "0x80, then a record of the old epoch", lambda c: old_epoch(c))
    yield Refused("aes-tag", auth, "AES-256-GCM", changed(lambda r: flipped(r, -1)), handshake="aes-exporter")
    yield Refused("other-direction", auth, "sealed with R's key", lambda c: other_root(c, 1, c.stream), only_preamble)
    yield Refused("other-stream", auth, "sealed for `a`", lambda c: other_root(c, 0, b"a"), only_preamble)
    yield Refused("other-instance", auth, "sealed for instance 1", lambda c: other_instance(c), only_preamble)


def twice(case):
    record = case.sealers["s0"].seal(DATA, message(b"hello"))
    case.bytes("s0", record)
    case.bytes("s0", record)


def swapped(case):
    case.sealers["s0"].seal(DATA, message(b"hello"))
    case.record("s0", DATA, message(b"world"))


def old_epoch(case):
    old, sealer = case.sealer(0), case.sealers["s0"]
    old.trace = None
    old.seal(OPEN, OPEN_0)
    old.seal(DATA, b"")
    case.bytes("s0", sealer.seal(DATA, b"", last=True))
    case.bytes("s0", old.seal(DATA, message(b"hello")))


def other_root(case, direction, stream):
    case.root = Case("", "", direction=direction, stream=stream).root
    case.sealers["s0"] = case.sealer(0)
    case.record("s0", OPEN, OPEN_0)


def other_instance(case):
    case.sealers["s0"] = case.sealer(1)
    case.record("s0", OPEN, OPEN_0)


def opens():
    bad = Code.BAD_RECORD

    def opening(*arguments):
        return lambda case: case.opening("s0", *arguments)

    def of_1(*arguments):
        def act(case):
            whole(case, "first", 0, 0, b"zero", last=0)
            case.preamble("s0", 1)
            case.opening("s0", *arguments)

        return act

    yield Refused("data-first", bad, "OPEN missing: data", data(b""), only_preamble)
    yield Refused("padding-first", bad, "OPEN missing: padded data", data(u16(0), kind=PADDED), only_preamble)
    yield Refused("close-first", bad, "OPEN missing: close", data(CLOSE_SLICE, kind=CLOSED), only_preamble)
    yield Refused("open-twice", bad, "OPEN repeated", data(OPEN_0, kind=OPEN))
    yield Refused("open-short", bad, "OPEN of 12 bytes", data(OPEN_0[:-1], kind=OPEN), only_preamble)
    yield Refused("open-long", bad, "OPEN of 14 bytes", data(OPEN_0 + b"\0", kind=OPEN), only_preamble)
    yield Refused("last-1", bad, "instance 0 with last 1", opening(0, 0, 1), only_preamble)
    yield Refused("last-0", bad, "instance 1 with last 0", of_1(1, 1, 0), nothing)
    yield Refused("last-3", bad, "instance 1 with last 3", of_1(1, 1, 3), nothing)
    yield Refused("open-mismatch", Code.INSTANCE, "1, the preamble has 0", opening(1, 0, 1), only_preamble)
    yield Refused("first-not-0", Code.NUMBER, "first message 1 in instance 0", opening(0, 1, 0), only_preamble)
    yield Refused("first-2-63", Code.NUMBER, "first message 2^63", of_1(1, 2**63, 1), nothing)
    yield Refused("first-most", Code.NUMBER, "first message 2^64 - 1", of_1(1, 2**64 - 1, 1), nothing)
    yield Refused("open-order-1", Code.INSTANCE, "instance and first message wrong", opening(1, 2**63, 1), only_preamble)
    yield Refused("open-order-2", Code.NUMBER, "first message and last wrong", opening(0, 1, 1), only_preamble)
    for n, content in (("0", b""), ("1", b"\0"), ("3", bytes(3))):
        yield Refused(f"close-{n}", bad, f"close record with {n} bytes", data(content, kind=CLOSED))


def streams():
    bad, length = Code.BAD_RECORD, Code.BAD_LENGTH

    def close_behind(content):
        def act(case):
            case.record("s0", DATA, content)
            case.record("s0", CLOSED, CLOSE_SLICE)

        return act

    def behind_close(content):
        def act(case):
            case.record("s0", CLOSED, CLOSE_SLICE)
            case.bytes("s0", content)

        return act

    yield Refused("close-in-message", bad, "close inside a message", close_behind(b"\x05hell"))
    yield Refused("close-in-length", bad, "close inside a length", close_behind(b"\x80"))
    yield Refused("close-behind-length", bad, "close behind a length", close_behind(b"\x01"))
    yield Refused("byte-behind-close", bad, "one byte", behind_close(b"\0"))
    yield Refused("record-behind-close", bad, "a record", lambda c: record_behind(c))
    yield Refused("length-not-minimal", length, "80 00", data(b"\x80\0"))
    yield Refused("length-not-minimal-long", length, "80 81 80 00", data(b"\x80\x81\x80\0"))
    yield Refused("length-6-bytes", length, "five bytes with the top bit", data(b"\x80" * 5))
    yield Refused("length-2-32", length, "2^32", data(b"\x80\x80\x80\x80\x10"))
    yield Refused("length-cut", length, "80 | 00 in two records", data(b"\x80", b"\0"))
    large = Code.MESSAGE_TOO_LARGE
    yield Refused("too-large-default", large, "10,485,761 with the default limit", data(bytes.fromhex("81808005")))
    yield Refused("too-large-most", large, "2^32 - 1", data(b"\xff\xff\xff\xff\x0f"))
    yield Refused("too-large", large, "1,001 with limit 1,000, behind the length", data(b"\x01x\xe9\x07"), limit=1000)
    yield Refused("too-large-repeated", large, "in a repeated message too", lambda c: large_repeated(c), limit=1000)
    number = Code.INSTANCE
    yield Refused("instance-twice-read", number, "0 while 0 is being read", lambda c: c.preamble("s1", 0))
    yield Refused("instance-twice-parked", number, "1 while 1 waits", lambda c: [c.preamble(k, 1) for k in "ab"])
    yield Refused("instance-ahead", number, "1,024 with turn 0", lambda c: c.preamble("s0", 1024), nothing)
    yield Refused("instance-most", number, "2^32 - 1 with turn 1", lambda c: c.preamble("s1", 2**32 - 1))
    yield Refused("abandon-ahead", number, "ABANDON of 1,024 with turn 0", lambda c: c.abandon(1024), nothing)


def record_behind(case):
    closed = case.sealers["s0"].seal(CLOSED, CLOSE_SLICE)
    case.bytes("s0", closed + case.sealers["s0"].seal(DATA, b""))


def large_repeated(case):
    case.data("s0", pattern(1000))
    case.end("s0", "reset")
    case.begin("s1", 1, 0, 2)
    case.record("s1", DATA, b"\xe9\x07")


def control():
    """Sealed frames."""

    def frames(*items):
        return lambda case: [case.control_frame(data) for data in items]

    def record(kind, content, change=lambda r: r):
        def act(case):
            data = change(case.control.seal(kind, content))
            case.under_test.reads(data)
            case._step(control_record=data)

        return act

    def refused(name, code, about, act):
        return Refused(f"control-{name}", code, about, act, nothing)

    wrong, bad = Code.UNEXPECTED_FRAME, Code.BAD_FRAME
    yield refused("kex", wrong, "KEX", frames(frame(0x01, pattern(40))))
    yield refused("kem-ct", wrong, "KEM_CT", frames(frame(0x02, pattern(1088))))
    yield refused("confirm", wrong, "CONFIRM", frames(frame(0x03, bytes(32))))
    yield refused("abort", wrong, "ABORT", frames(frame(0x05, u16(0))))
    yield refused("finished-twice", wrong, "FINISHED again", frames(frame(0x04)))
    yield refused("app", wrong, "APP behind FINISHED", frames(frame(0x10, b"late")))
    for kind in (0x00, 0x06, 0x11, 0x22, 0x7F):
        yield refused(f"type-{kind}", wrong, f"type {kind:#04x}", frames(frame(kind)))
    yield refused("n-0", bad, "n = 0", frames(b"\0"))
    yield refused("n-not-minimal", bad, "n = 80 00", frames(b"\x80\0"))
    yield refused("n-long", bad, "n with four bytes", frames(b"\x81\x80\x84"))
    yield refused("n-65538", bad, "n = 65,538, before the type", frames(b"\x82\x80\x04"))
    yield refused("finished-long", bad, "FINISHED with n = 2", frames(frame(0x04, b"\0")[:2]))
    yield refused("abandon-long", bad, "ABANDON with n = 70", frames(abandon(0, b"a" * 65)[:2]))
    yield refused("abandon-short", bad, "ABANDON of 3 bytes", frames(frame(0x21, bytes(3))))
    for name in (b"", b"handshake", b"a/b", "é".encode(), b"a b"):
        about = f"ABANDON of the name {name!r}"
        yield refused(f"abandon-name-{name.hex()}", bad, about, frames(abandon(0, name)))
    none = Count(0, 0, 0)
    entry = close(0, {b"chat": none})
    yield refused("close-3", bad, "CLOSE of 3 bytes", frames(frame(0x20, bytes(3))))
    yield refused("close-cut", bad, "CLOSE whose entry is cut", frames(frame(0x20, entry[2:-1])))
    yield refused("close-long", bad, "a byte behind the entries", frames(frame(0x20, entry[2:] + b"\0")))
    yield refused("close-k", bad, "k = 2 with one entry", frames(frame(0x20, u16(0) + u16(2) + entry[6:])))
    yield refused("close-order", bad, "names not ascending", frames(entries(b"b", b"a")))
    yield refused("close-twice", bad, "a name twice", frames(entries(b"a", b"a")))
    yield refused("close-order-length", bad, "`ab` before `a`", frames(entries(b"ab", b"a")))
    for name in (b"", b"handshake", LONG_NAME + b"x"):
        yield refused(f"close-name-{len(name)}", bad, "a name that is none", frames(entries(name)))
    record_ = Code.BAD_RECORD
    yield refused("record-close", record_, "a close record", record(CLOSED, CLOSE_SLICE))
    yield refused("record-open", record_, "an OPEN record", record(OPEN, OPEN_0))
    yield refused("record-type-4", record_, "type 4", record(4, b""))
    yield refused("record-padding", record_, "padding with n too large", record(PADDED, u16(1)))
    auth = Code.RECORD_AUTH
    yield refused("record-tag", auth, "a bit of the tag", record(DATA, b"", lambda r: flipped(r, -1)))
    rate = frames(b"".join(frame(0x80) for _ in range(64)), frame(0x80))
    yield refused("rate", Code.RATE, "65 control frames at once", rate)
    yield refused("rate-abandon", Code.RATE, "ABANDON and reserved frames", lambda c: mixed_rate(c))
    yield refused("rate-later", Code.RATE, "64, a second, 17", lambda c: later_rate(c))


def entries(*names):
    body = u16(0) + u16(len(names))
    for name in names:
        body += bytes([len(name)]) + name + bytes(24)
    return frame(0x20, body)


def mixed_rate(case):
    case.control_frame(b"".join(abandon(n % 3, b"other") for n in range(40)))
    case.control_frame(b"".join(frame(0xFF) for _ in range(24)))
    case.abandon(0)


def later_rate(case):
    case.control_frame(b"".join(frame(0x80) for _ in range(64)))
    case.wait(1_000)
    case.control_frame(b"".join(frame(0x80) for _ in range(16)))
    case.control_frame(frame(0x80))


def cases():
    parts = (records(), opens(), streams(), control())
    return [refused.case() for part in parts for refused in part]
