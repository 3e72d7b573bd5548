"""Names of substreams by multistream-select (WIRE.md §3.2). Bytes go in, bytes come out."""

import application  # noqa: F401  It knows where v2 is.
from v2.wire import varint

HEADER, REFUSED = b"/multistream/1.0.0", b"na"
MOST = 1024


def line(text):
    return varint(len(text) + 1) + text + b"\n"


class BadName(Exception):
    """What arrived is no message of multistream-select."""


class Lines:
    def __init__(self):
        self.buffer = bytearray()

    def next(self):
        """The next message, None if bytes are missing."""
        length, at = 0, 0
        while at < len(self.buffer):
            byte = self.buffer[at]
            length |= (byte & 127) << 7 * at
            at += 1
            if byte < 128:
                break
            if at == 2:
                raise BadName("length")
        else:
            return None
        if not 1 <= length <= MOST:
            raise BadName("length")
        if len(self.buffer) < at + length:
            return None
        text = bytes(self.buffer[at : at + length])
        del self.buffer[: at + length]
        if not text.endswith(b"\n"):
            raise BadName("no newline")
        return text[:-1]


class Proposal(Lines):
    """The opener's side, with one name."""

    def __init__(self, name):
        super().__init__()
        self.name, self.has_header = name, False
        self.out = line(HEADER) + line(name)

    def answer(self):
        """Whether the name is accepted, None if that is not known yet. What is left is the peer's."""
        while (text := self.next()) is not None:
            if not self.has_header:
                if text != HEADER:
                    raise BadName("header")
                self.has_header = True
            elif text in (self.name, REFUSED):
                return text == self.name
            else:
                raise BadName("another name")
        return None


class Acceptance(Lines):
    """The acceptor's side. `accepts(name)` says whether it takes a substream of this name."""

    def __init__(self, accepts):
        super().__init__()
        self.accepts, self.has_header, self.out = accepts, False, b""

    def name(self):
        """The name that is agreed on, None if there is none yet. `out` has what is to be written."""
        while (text := self.next()) is not None:
            if not self.has_header:
                if text != HEADER:
                    raise BadName("header")
                self.has_header = True
                self.out += line(HEADER)
            elif self.accepts(text):
                self.out += line(text)
                return text
            else:
                self.out += line(REFUSED)
        return None
