"""The frame stream of the handshake substream and its frames but KEX (§6.2, §8.7, §9.1)."""

from dataclasses import dataclass

from .codes import Code, SessionError
from .wire import Cut, Fields, is_name, read_varint, u8, u16, u32, u64, varint

KEX, KEM_CT, CONFIRM, FINISHED, ABORT = 0x01, 0x02, 0x03, 0x04, 0x05
APP, CLOSE, ABANDON = 0x10, 0x20, 0x21
RESERVED = range(0x80, 0x100)
MOST = 65_537
EXACT = {KEM_CT: 1089, CONFIRM: 33, FINISHED: 1, ABORT: 3}
MOST_OF = {KEX: 4096, APP: MOST, CLOSE: MOST, ABANDON: 69}


def frame(kind, body=b""):
    """A frame with its varint."""
    return varint(1 + len(body)) + u8(kind) + body


def is_next(data, kind):
    """Whether the frame in front of `data` is known to be of this type."""
    head = read_varint(data, 3, Code.BAD_FRAME)
    return head is not None and len(data) > head[1] and data[head[1]] == kind


def read_frame(data, expect):
    """`(type, body, length)` of the frame in front of `data`, None if bytes are missing.

    `expect(type)` raises if the type is not allowed here. Order of the checks: the varint, n against
    the greatest maximum, a type that does not exist, n against its maximum, a type that is not
    allowed here. The body is awaited only then.
    """
    head = read_varint(data, 3, Code.BAD_FRAME)
    if head is None:
        return None
    n, at = head
    if not 1 <= n <= MOST:
        raise SessionError(Code.BAD_FRAME, f"n = {n}")
    if len(data) == at:
        return None
    kind = data[at]
    if kind in EXACT:
        fits = n == EXACT[kind]
    elif kind in MOST_OF or kind in RESERVED:
        fits = n <= MOST_OF.get(kind, MOST)
    else:
        raise SessionError(Code.UNEXPECTED_FRAME, f"type {kind:#04x}")
    if not fits:
        raise SessionError(Code.BAD_FRAME, f"n = {n} with type {kind:#04x}")
    expect(kind)
    if len(data) < at + n:
        return None
    return kind, bytes(data[at + 1 : at + n]), at + n


def abort(code):
    return frame(ABORT, u16(code))


def abandon(instance, name):
    return frame(ABANDON, u32(instance) + name)


def read_abandon(body):
    """`(instance, name)`."""
    if len(body) < 4 or not is_name(body[4:]):
        raise SessionError(Code.BAD_FRAME, "ABANDON")
    return int.from_bytes(body[:4], "big"), body[4:]


@dataclass(frozen=True)
class Count:
    """What one side sent and received on one stream."""

    sent: int
    next: int
    lost: int


def close(code, counts):
    """CLOSE with a dict from name to Count."""
    entries = [
        u8(len(name)) + name + u64(c.sent) + u64(c.next) + u64(c.lost)
        for name, c in sorted(counts.items())
    ]
    return frame(CLOSE, u16(code) + u16(len(entries)) + b"".join(entries))


def read_close(body):
    """`(code, counts)`."""
    fields, counts, before = Fields(body), {}, b""
    try:
        code, k = fields.number(2), fields.number(2)
        for _ in range(k):
            name = fields.take(fields.number(1))
            if not is_name(name) or name <= before:
                raise SessionError(Code.BAD_FRAME, "name or order in CLOSE")
            before = name
            counts[name] = Count(fields.number(8), fields.number(8), fields.number(8))
    except Cut:
        raise SessionError(Code.BAD_FRAME, "CLOSE is cut") from None
    if fields.left():
        raise SessionError(Code.BAD_FRAME, "bytes behind CLOSE")
    return code, counts


class Bucket:
    """The receiver's rate of control frames (§6.2): 64 tokens, 16 a second. Times in ms."""

    def __init__(self, now):
        self.tokens, self.at = 64.0, now

    def take(self, now):
        self.tokens = min(64.0, self.tokens + 16 * (now - self.at) / 1000)
        self.at = now
        if self.tokens < 1:
            raise SessionError(Code.RATE, "control frames")
        self.tokens -= 1
