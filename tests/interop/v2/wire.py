"""Integers, varints, names and the name preamble (§1, §3.3, §3.4)."""

import string

from .codes import Code, SessionError

NAME_BYTES = frozenset((string.ascii_letters + string.digits + "_-").encode())
HANDSHAKE_ID = b"/glueberry/handshake/2.0.0"
STAYS = b"/glueberry/stays/1.0.0"


def u8(n):
    return n.to_bytes(1, "big")


def u16(n):
    return n.to_bytes(2, "big")


def u32(n):
    return n.to_bytes(4, "big")


def u64(n):
    return n.to_bytes(8, "big")


def lp(data):
    return u32(len(data)) + data


def varint(n):
    """The minimal varint of `n`."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def read_varint(data, most, code):
    """`(value, length)` of the minimal varint in front of `data`, None if bytes are missing.

    More than `most` bytes, or a varint that is not minimal, are refused with `code`.
    """
    value = 0
    for at, byte in enumerate(data[:most]):
        value |= (byte & 127) << 7 * at
        if byte < 128:
            if byte == 0 and at > 0:
                raise SessionError(code, "varint is not minimal")
            return value, at + 1
    if len(data) >= most:
        raise SessionError(code, "varint is too long")
    return None


class Cut(Exception):
    """A field goes beyond the end."""


class Fields:
    """Reads fields of known length; `Cut` if one is missing."""

    def __init__(self, data):
        self.data, self.at = bytes(data), 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Cut
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def left(self):
        return len(self.data) - self.at


def is_name(name):
    """Whether these bytes are the name of a stream (§3.4)."""
    return 1 <= len(name) <= 64 and NAME_BYTES.issuperset(name) and name != b"handshake"


def stream_id(name):
    return b"/glueberry/stream/" + name + b"/2.0.0"


def propose(protocol):
    """The name preamble of a protocol id (§3.3)."""
    if not 1 <= len(protocol) <= 128:
        raise ValueError("a protocol id has 1 to 128 bytes")
    return u8(len(protocol)) + protocol


def read_proposal(data):
    """`(id, length)` of the name preamble in front of `data`, None if bytes are missing."""
    if not data:
        return None
    n = data[0]
    if not 1 <= n <= 128:
        raise SessionError(Code.MISBEHAVED, "length of a protocol id")
    if len(data) < 1 + n:
        return None
    protocol = bytes(data[1 : 1 + n])
    try:
        protocol.decode()
    except UnicodeDecodeError:
        raise SessionError(Code.MISBEHAVED, "protocol id is not UTF-8") from None
    return protocol, 1 + n


def read_answer(data, proposal):
    """`(accepted, length)` of the answer to `proposal`, None if bytes are missing."""
    if data[:1] == b"\0":
        return False, 1
    if bytes(data[: len(proposal)]) != proposal[: len(data)]:
        raise SessionError(Code.MISBEHAVED, "answer is not the proposal")
    return (True, len(proposal)) if len(data) >= len(proposal) else None
