"""Numbers of §10 and the two ways in which a received byte can be refused."""

from enum import IntEnum


class Code(IntEnum):
    """Session codes (§10.1)."""

    DONE = 0
    REJECTED = 1
    HANDSHAKE_FAILED = 2
    SUPERSEDED = 3
    NO_COMMON_PROTOCOL = 4
    MISBEHAVED = 5
    INTERNAL = 6
    BUSY = 7
    BAD_FRAME = 16
    UNEXPECTED_FRAME = 17
    BAD_KEY = 18
    NO_COMMON_SUITE = 19
    NO_COMMON_BINDING = 20
    BAD_CONFIRM = 21
    BAD_RECORD = 22
    RECORD_AUTH = 23
    EPOCH_LIMIT = 24
    BAD_LENGTH = 25
    MESSAGE_TOO_LARGE = 26
    INSTANCE = 27
    NUMBER = 28
    RATE = 29
    LIMIT = 30
    DOWNGRADE = 31


class Reset(IntEnum):
    """Reset codes of a substream (§10.2)."""

    REFUSED = 1
    LIMIT_REACHED = 2
    CLOSED = 3
    WRONG_SESSION = 4
    STALE = 5
    REVERSE_BYTES = 6
    ABANDONED = 7
    PARKED = 8


def known_code(number):
    """An unknown code is treated as 5 (§10.1)."""
    return Code(number) if number in Code._value2member_map_ else Code.MISBEHAVED


class SessionError(Exception):
    """What arrived ends the session with `code`."""

    def __init__(self, code, why=""):
        super().__init__(f"{code.name}: {why}" if why else code.name)
        self.code = code


class SubstreamReset(Exception):
    """What arrived resets one substream with `code`; the session goes on."""

    def __init__(self, code, why=""):
        super().__init__(f"{code.name}: {why}" if why else code.name)
        self.code = code


class Misuse(Exception):
    """A local error: the call is not allowed now and changes nothing."""
