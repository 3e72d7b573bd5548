"""Several substreams of a stream: order, waiting, skipping, and what resets one of them."""

from ..frames import frame
from ..wire import u32
from .streams import Case


def whole(case, key, number, first, *messages, last=1):
    case.begin(key, number, first, last)
    case.data(key, *messages)
    case.finish(key)


def order():
    case = Case("parked", "instances 1 and 2 come while 0 is being read")
    case.begin("s0")
    case.data("s0", b"zero")
    whole(case, "s2", 2, 2, b"two")
    whole(case, "s1", 1, 1, b"one")
    case.finish("s0")
    yield case
    case = Case("parked-first", "instance 1 comes first; 0 comes within 10 s")
    whole(case, "s1", 1, 1, b"one")
    case.wait(9_000)
    whole(case, "s0", 0, 0, b"zero", last=0)
    yield case
    case = Case("skipped-by-time", "0 doesn't come for 10 s: skipped; then it comes")
    whole(case, "s1", 1, 1, b"one", last=2)
    case.wait(10_000)
    case.preamble("s0", 0)
    yield case
    case = Case("skipped-by-time-far", "1,023 ahead is allowed; all below are skipped")
    case.preamble("far", 1023)
    case.wait(10_000)
    case.opening("far", 1023, 5, 2)
    case.data("far", b"far")
    case.finish("far")
    yield case
    case = Case("abandoned-parked-reset", "a parked one that is reset keeps its place: a truncation")
    case.begin("s0")
    case.preamble("s1", 1)
    case.end("s1", "reset")
    whole(case, "s2", 2, 0, b"two", last=2)
    case.finish("s0")
    yield case
    case = Case("preamble-cut", "a preamble that is not complete is forgotten; the number is free")
    case.agree("cut")
    case.bytes("cut", case.sid[:8] + u32(0)[:3])
    case.end("cut", "fin")
    whole(case, "s0", 0, 0, b"zero", last=0)
    yield case
    case = Case("stalled", "nothing comes for 10 s while a later one waits: reset 7, a truncation")
    case.begin("s0")
    case.data("s0", b"zero")
    case.wait(60_000)
    case.begin("s1", 1, 1, 2)
    case.wait(9_000)
    case.data("s0", b"one")
    case.wait(9_000)
    case.wait(1_000)
    case.data("s1", b"two")
    yield case


def abandons():
    case = Case("abandon", "ABANDON of 0 and 1: both skipped at once; 2 is read")
    case.abandon(1)
    case.abandon(0)
    whole(case, "s2", 2, 0, b"two", last=2)
    yield case
    case = Case("abandon-then-preamble", "ABANDON of 1 before its turn, then it comes: it is read")
    case.begin("s0")
    case.abandon(1)
    whole(case, "s1", 1, 0, b"one")
    case.finish("s0")
    yield case
    case = Case("abandon-too-late", "ABANDON of an instance that waits, is read or is over: ignored")
    whole(case, "s0", 0, 0, b"zero", last=0)
    case.begin("s1", 1, 1)
    case.begin("s2", 2, 1)
    for number in (0, 1, 2):
        case.abandon(number)
    case.finish("s1")
    case.finish("s2")
    yield case
    case = Case("abandon-other", "ABANDON of a name that is not prepared, far ahead: ignored")
    case.abandon(5_000, b"other")
    yield case
    case = Case("abandon-far", "1,023 ahead is allowed")
    case.abandon(1023)
    yield case
    case = Case("abandon-nine", "eight are remembered, the highest of nine is forgotten")
    case.begin("s0")
    for number in (9, 1, 2, 3, 4, 5, 6, 7, 8):
        case.abandon(number)
    case.finish("s0")
    case.preamble("s8", 8)
    case.preamble("s9", 9)
    yield case


def resets():
    case = Case("wrong-session", "a preamble with another session's id: reset 4, nothing else")
    case.preamble("other", 0, sid=b"\xee" + case.sid[1:])
    whole(case, "s0", 0, 0, b"zero", last=0)
    yield case
    case = Case("stale", "an instance that is over: reset 5")
    whole(case, "s0", 0, 0, b"zero", last=0)
    case.preamble("again", 0)
    yield case
    case = Case("stale-skipped", "an instance that was skipped: reset 5")
    case.abandon(0)
    case.preamble("s0", 0)
    yield case
    case = Case("third-parked", "two wait; a third is reset with 8, its number is free")
    case.begin("s0")
    for number in (1, 2, 3):
        case.preamble(f"s{number}", number)
    case.finish("s0")
    case.opening("s1", 1)
    case.finish("s1")
    case.preamble("again", 3)
    yield case
    case = Case("slow-preamble", "a preamble that is not complete after 10 s: reset 1")
    case.agree("slow")
    case.bytes("slow", case.sid[:8])
    case.wait(9_999)
    case.wait(1)
    yield case
    case = Case("many-substreams", "64 without a preamble; the next is reset with 2")
    for number in range(65):
        case.agree(f"s{number}", (b"a", b"chat")[number % 2])
    yield case
    case = Case("name-not-prepared", "a substream of a name that is not prepared is refused")
    case.agree("other", b"other")
    yield case
    case = Case("control-frames", "64 reserved frames at once, 16 more a second later")
    case.control_frame(b"".join(frame(0x80 + n, b"x" * n) for n in range(64)))
    case.wait(1_000)
    case.control_frame(b"".join(frame(0xFF) for _ in range(16)))
    yield case


def cases():
    return [case.case() for part in (order(), abandons(), resets()) for case in part]

