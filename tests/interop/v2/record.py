"""Records and their epochs (§8.1, §8.2)."""

from .codes import Code, SessionError
from .crypto import open_sealed, seal
from .schedule import Epoch
from .wire import u8, u16, u64

DATA, CLOSED, PADDED, OPEN = 0, 1, 2, 3
LAST = 0x80
SHORTEST, LONGEST = 17, 16_640
FULL_SLICE = 16_384
BLOCKS, RECORDS, FULL_BLOCKS = 2**26, 2**16, 1040
EPOCH_MS = 600_000


def blocks_of(length):
    return -(-(length - 16) // 16) + 1


def is_too_long(counter, blocks, last):
    """Step 4 of §8.2, after the record has been counted."""
    return blocks > BLOCKS or counter == RECORDS and not last


def must_end(counter, blocks, age_ms):
    """Whether the sender must flag this record, counted already, as the last of its epoch."""
    return counter == RECORDS or blocks + FULL_BLOCKS > BLOCKS or age_ms >= EPOCH_MS


def pad(inner, zeros):
    return u16(len(inner)) + inner + bytes(zeros)


class Direction:
    """What sealing and opening share: the epoch and its counts."""

    def __init__(self, aead, secret):
        self.aead, self.epoch = aead, Epoch(secret)
        self.counter = self.blocks = 0

    def nonce(self):
        mask = bytes(4) + u64(self.counter)
        return bytes(a ^ b for a, b in zip(self.epoch.iv, mask))

    def count(self, length):
        self.counter += 1
        self.blocks += blocks_of(length)

    def rekey(self):
        self.epoch.step()
        self.counter = self.blocks = 0


class Sealer(Direction):
    """Writes records. `trace` receives a dict for each, for the vectors."""

    def __init__(self, aead, secret, trace=None):
        super().__init__(aead, secret)
        self.first_at = None
        self.trace = trace

    def seal(self, kind, content, now=0, last=False):
        if self.first_at is None:
            self.first_at = now
        length = 17 + len(content)
        assert SHORTEST <= length <= LONGEST
        key, nonce, at = self.epoch.key, self.nonce(), self.counter
        self.count(length)
        last = last or must_end(self.counter, self.blocks, now - self.first_at)
        plaintext = u8(kind | LAST if last else kind) + content
        record = u16(length) + seal(self.aead, key, nonce, u16(length), plaintext)
        if self.trace is not None:
            self.trace.append(
                {
                    "epoch": self.epoch.number,
                    "counter": at,
                    "key": key,
                    "iv": self.epoch.iv,
                    "nonce": nonce,
                    "plaintext": plaintext,
                    "record": record,
                }
            )
        if last:
            self.rekey()
            self.first_at = None
        return record


class Opener(Direction):
    """Reads records from a growing buffer."""

    def __init__(self, aead, secret):
        super().__init__(aead, secret)
        self.buffer = bytearray()

    def next(self):
        """`(type, slice)` of the next record, None if bytes are missing. Checks the form of a padded
        slice and gives what is in it as DATA; which types are allowed is the caller's matter.
        """
        if len(self.buffer) < 2:
            return None
        length = int.from_bytes(self.buffer[:2], "big")
        if not SHORTEST <= length <= LONGEST:
            raise SessionError(Code.BAD_RECORD, f"length {length}")
        if len(self.buffer) < 2 + length:
            return None
        sealed = bytes(self.buffer[2 : 2 + length])
        plaintext = open_sealed(self.aead, self.epoch.key, self.nonce(), u16(length), sealed)
        del self.buffer[: 2 + length]
        self.count(length)
        kind, last = plaintext[0] & ~LAST, plaintext[0] & LAST != 0
        if is_too_long(self.counter, self.blocks, last):
            raise SessionError(Code.EPOCH_LIMIT)
        if kind > OPEN:
            raise SessionError(Code.BAD_RECORD, f"type {kind}")
        content = plaintext[1:]
        if kind == PADDED:
            n = int.from_bytes(content[:2], "big")
            if len(content) < 2 or n > len(content) - 2:
                raise SessionError(Code.BAD_RECORD, "padding")
            kind, content = DATA, content[2 : 2 + n]
        if last:
            self.rekey()
        return kind, content
