"""The message stream of one instance (§8.4)."""

from .codes import Code, SessionError
from .wire import read_varint, varint

LONGEST = 2**32 - 1


def message(data):
    """A message with its length."""
    return varint(len(data)) + data


class MessageReader:
    def __init__(self, limit):
        self.limit = limit
        self.buffer = bytearray()
        self.length = None  # of the message being gathered

    @property
    def inside(self):
        """Whether a message or its length is cut."""
        return self.length is not None or bool(self.buffer)

    def feed(self, data):
        """The messages that are whole now, as a generator."""
        self.buffer += data
        while True:
            if self.length is None:
                head = read_varint(self.buffer, 5, Code.BAD_LENGTH)
                if head is None:
                    return
                n, at = head
                if n > LONGEST:
                    raise SessionError(Code.BAD_LENGTH, "above 2^32 - 1")
                if n > self.limit:
                    raise SessionError(Code.MESSAGE_TOO_LARGE, f"{n} bytes")
                self.length = n
                del self.buffer[:at]
            if len(self.buffer) < self.length:
                return
            whole = bytes(self.buffer[: self.length])
            del self.buffer[: self.length]
            self.length = None
            yield whole
