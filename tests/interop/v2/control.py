"""The handshake substream of one side: gate, CONFIRM, sealed frames (§6, §11).

`receive` takes bytes, `take` gives them; what happened is in `events` and in the attributes. A
SessionError that leaves `receive` has to be passed to `fail` by the owner, the session.
"""

import hashlib
from dataclasses import dataclass, field

from . import frames, mlkem
from .codes import Code, Misuse, SessionError, known_code
from .crypto import BadIdentity, check_identity, same
from .kex import HYBRID, KEM_KEY, SUITES, Kex, accept_kex, make_ephemerals, make_kex
from .record import DATA, FULL_SLICE, Opener, Sealer
from .schedule import I_TO_R, R_TO_I, Schedule, Shares, Transcript

HELD, INBOX_BYTES, INBOX_MESSAGES, DROPPED = 65_536, 65_536, 256, 65_536
ALLOWED = {
    "first": {frames.KEX, frames.ABORT},
    "clear": {frames.KEM_CT, frames.CONFIRM, frames.APP, frames.ABORT},
    "sealed": {frames.APP, frames.FINISHED, frames.CLOSE, frames.ABANDON, *frames.RESERVED},
    "finished": {frames.CLOSE, frames.ABANDON, *frames.RESERVED},
}


@dataclass
class Config:
    """What one side brings into a session."""

    identity: object
    entropy: bytes
    wall: int = 0
    counter: int = 0
    suites: tuple = (0x0001,)
    mask: int = 1
    binding_value: bytes = b""
    extensions: tuple = ()
    app: bytes = b""
    names: tuple = ()
    message_limit: int = 10_485_760
    ephemerals: object = field(default=None, repr=False)


class Over(Exception):
    """The peer's CLOSE or ABORT arrived."""

    def __init__(self, code, counts=None):
        super().__init__(code)
        self.code, self.counts = code, counts


class Control:
    def __init__(self, config, is_i, peer_id=None, now=0):
        self.config, self.is_i = config, is_i
        self.authenticated = peer_id is not None
        self.peer_id = self.peer_u = None
        if peer_id is not None:
            self._learn(peer_id)
        self.own_direction, self.peer_direction = (I_TO_R, R_TO_I) if is_i else (R_TO_I, I_TO_R)
        self.gate = "first"
        self.clear_in = bytearray()  # not parsed yet; behind CONFIRM: held
        self.held_confirm = None
        self.hash_in, self.hash_out = hashlib.sha256(), hashlib.sha256()
        self.opener = self.sealer = None
        self.plain_in, self.plain_out, self.out = bytearray(), bytearray(), bytearray()
        self.bucket = frames.Bucket(now)
        self.peer_kex = self.suite = self.binding = self.kk = self.kem_ct = None
        self.schedule = self.sid = self.exporter = None
        self.verified = self.confirm_written = self.last_written = False
        self.connected = self.finalized = self.peer_finished = False
        self.inbox, self.inbox_bytes, self.dropped = [], 0, 0
        self.waiting = []  # frames that have to wait for CONFIRM
        self.clear_sent = self.clear_bytes = 0  # APP frames in the clear
        self.abandoned = []  # (instance, name) of the peer, for the session
        self.trace = []
        self._write_kex()

    # Output.

    def _write_kex(self):
        c = self.config
        e = c.ephemerals or make_ephemerals(
            c.identity.seed, c.entropy, c.wall, c.counter, c.binding_value
        )
        extensions, self.kem = list(c.extensions), None
        if not self.is_i and not HYBRID.isdisjoint(c.suites):
            self.kem, ek = mlkem.keygen(e.kem_seed)
            extensions.append((KEM_KEY, ek))
        self.ephemerals = e
        self.own_kex: Kex = make_kex(c.mask, c.suites, e.public, sorted(extensions))
        self._write_clear(frames.frame(frames.KEX, self.own_kex.wire[1:]))

    def _write_clear(self, data):
        self.hash_out.update(data)
        self.out += data

    def write(self, data):
        """Queues a frame: in the clear before CONFIRM, else into the next record."""
        if self.confirm_written:
            self.plain_out += data
        else:
            self._write_clear(data)

    def take(self, now=0):
        """The bytes for the transport; seals what is queued."""
        while self.plain_out:
            self.out += self.sealer.seal(DATA, bytes(self.plain_out[:FULL_SLICE]), now)
            del self.plain_out[:FULL_SLICE]
        out = bytes(self.out)
        self.out.clear()
        return out

    # Calls of the application (§11.2); the session checks its own states.

    def connect(self):
        """The node has chosen the session: CONFIRM goes out as soon as `ms` is known."""
        self.connected = True
        self._confirm()

    def send(self, message):
        if not self.connected or self.finalized:
            raise Misuse("send_handshake")
        if len(message) > 65_536:
            raise Misuse("handshake message above 65,536 bytes")
        frame = frames.frame(frames.APP, message)
        if self._clear_is_full():
            self.waiting.append(frame)
            return
        if not self.confirm_written:
            self.clear_sent += 1
            self.clear_bytes += len(message)
        self.write(frame)

    def _clear_is_full(self):
        """Whether APP has to wait for CONFIRM (§6.6)."""
        return (
            self.peer_id is not None
            and not self.confirm_written
            and (self.clear_bytes >= INBOX_BYTES or self.clear_sent >= INBOX_MESSAGES)
        )

    def prepare(self, key):
        """`check_key` comes first. What was held is read now, so this may raise SessionError."""
        if self.peer_id is None:
            self._learn(key)
            self._derive()

    def check_key(self, key):
        """A local error if the key may not be given to `prepare`."""
        if not self.connected or self.finalized:
            raise Misuse("prepare")
        if self.peer_id not in (None, key):
            raise Misuse("another key than the peer's identity")
        try:
            check_identity(key, self.config.identity.u)
        except BadIdentity as bad:
            raise Misuse("key refused by §2") from bad

    def finalize(self):
        if not self.connected or self.finalized:
            raise Misuse("finalize")
        self.finalized = True
        if self.confirm_written:
            self.write(frames.frame(frames.FINISHED))
        else:
            self.waiting.append(frames.frame(frames.FINISHED))

    def _learn(self, key):
        self.peer_u = check_identity(key, self.config.identity.u)
        self.peer_id = key

    def messages(self):
        """Hands out the messages of the handshake that have arrived."""
        if not self.connected:
            return []
        out, self.inbox, self.inbox_bytes = self.inbox, [], 0
        return out

    # Input.

    def wants(self):
        """Whether the substream should be read."""
        if self.gate == "over" or self._waits_for_room():
            return False
        return self.gate != "held" or len(self.clear_in) < HELD

    def _inbox_is_full(self):
        return self.inbox_bytes >= INBOX_BYTES or len(self.inbox) >= INBOX_MESSAGES

    def _waits_for_room(self):
        """Frames other than APP need none: CONFIRM is read whatever is held."""
        if not self._inbox_is_full():
            return False
        return self.gate not in ("first", "clear") or frames.is_next(self.clear_in, frames.APP)

    def receive(self, data, now=0):
        """Takes bytes of the peer. Raises SessionError or Over."""
        self.clear_in += data
        self.advance(now)

    def advance(self, now=0):
        while self.gate in ("first", "clear") and not self._waits_for_room():
            got = frames.read_frame(self.clear_in, self._expect)
            if got is None:
                return
            kind, body, length = got
            raw = bytes(self.clear_in[:length])
            del self.clear_in[:length]
            if kind != frames.CONFIRM:
                self.hash_in.update(raw)
            self._clear_frame(kind, body)
        if self.gate in ("sealed", "finished"):
            self._sealed(now)

    def _expect(self, kind):
        """Raises if the gate does not allow the type now (§11.1)."""
        ok = kind in ALLOWED[self.gate]
        if self.gate == "clear":
            needs_kem = not self.is_i and self.suite in HYBRID and self.kk is None
            if kind == frames.KEM_CT:
                ok = needs_kem
            elif kind == frames.CONFIRM:
                ok = not needs_kem
        if not ok:
            raise SessionError(Code.UNEXPECTED_FRAME, f"type {kind:#04x} in {self.gate}")

    def _clear_frame(self, kind, body):
        if kind == frames.ABORT:
            self.gate = "over"
            raise Over(known_code(int.from_bytes(body, "big")))
        if kind == frames.KEX:
            self.peer_kex, self.suite, self.binding = accept_kex(
                body, self.own_kex, self.config.identity.u, self.is_i
            )
            self.gate = "clear"
            if self.suite not in HYBRID:
                self.kk = self.kem_ct = b""
            elif self.is_i:
                self.kk, ct = mlkem.encapsulate(self.peer_kex.kem_key, self.ephemerals.kem_coins)
                self.kem_ct = bytes([frames.KEM_CT]) + ct
                self._write_clear(frames.frame(frames.KEM_CT, ct))
            self._derive()
        elif kind == frames.KEM_CT:
            self.kk = self.kem.decapsulate(body)
            self.kem_ct = bytes([frames.KEM_CT]) + body
            self._derive()
        elif kind == frames.CONFIRM:
            self.held_confirm = body
            self.gate = "held"
            self._verify()
        else:
            self._deliver(body)

    def _derive(self):
        """K of §11.2: `ms`, and what waited for it."""
        if self.peer_kex is None or self.kk is None or self.peer_u is None or self.schedule:
            return
        c, own, peer = self.config, self.own_kex, self.peer_kex
        i, r = (own, peer) if self.is_i else (peer, own)
        id_i, id_r = c.identity.id, self.peer_id
        if not self.is_i:
            id_i, id_r = id_r, id_i
        value = c.binding_value if self.binding == 1 else b""
        self.transcript = Transcript(
            self.suite, i.wire, r.wire, self.kem_ct, id_i, id_r, self.binding, value, c.app
        )
        of = Shares.of_i if self.is_i else Shares.of_r
        e, s = self.ephemerals.private, c.identity.s
        self.shares = of(e, s, peer.ephemeral, self.peer_u)
        self.schedule = Schedule(self.transcript.hash(), self.kk, self.shares)
        self.sid, self.exporter = self.schedule.sid(), self.schedule.exporter()
        self._confirm()
        self._verify()

    def _confirm(self):
        if self.schedule is None or not self.connected or self.confirm_written:
            return
        hs = self.hash_out.digest()
        self.out += frames.frame(frames.CONFIRM, self.schedule.confirm(self.own_direction, hs))
        self.sealer = Sealer(SUITES[self.suite], self.schedule.control(self.own_direction), self.trace)
        self.confirm_written = True
        for data in self.waiting:
            self.write(data)
        self.waiting.clear()

    def _verify(self):
        if self.held_confirm is None or self.schedule is None:
            return
        expected = self.schedule.confirm(self.peer_direction, self.hash_in.digest())
        if not same(expected, self.held_confirm):
            raise SessionError(Code.BAD_CONFIRM)
        self.held_confirm = None
        self.opener = Opener(SUITES[self.suite], self.schedule.control(self.peer_direction))
        self.verified, self.gate = True, "sealed"

    def _sealed(self, now):
        self.opener.buffer += self.clear_in
        self.clear_in.clear()
        while not self._inbox_is_full():
            self._sealed_frames(now)
            if self._inbox_is_full():
                return
            record = self.opener.next()
            if record is None:
                return
            kind, content = record
            if kind != DATA:
                raise SessionError(Code.BAD_RECORD, "type on the handshake substream")
            self.plain_in += content

    def _sealed_frames(self, now):
        while not self._inbox_is_full():
            got = frames.read_frame(self.plain_in, self._expect)
            if got is None:
                return
            kind, body, length = got
            del self.plain_in[:length]
            if kind == frames.APP:
                self._deliver(body)
            elif kind == frames.FINISHED:
                self.gate, self.peer_finished = "finished", True
            elif kind == frames.CLOSE:
                code, counts = frames.read_close(body)
                self.gate = "over"
                raise Over(known_code(code), counts)
            else:
                self.bucket.take(now)
                if kind == frames.ABANDON:
                    self.abandoned.append(frames.read_abandon(body))

    def _deliver(self, message):
        if self.finalized:
            self.dropped += len(message)
            if self.dropped > DROPPED:
                raise SessionError(Code.LIMIT, "dropped APP frames")
            return
        self.inbox.append(message)
        self.inbox_bytes += len(message)

    # End.

    def end(self, code, counts, now=0):
        """Writes CLOSE, or ABORT before CONFIRM; FIN follows (§9.3)."""
        if self.last_written:
            return
        self.last_written = True
        if self.confirm_written:
            self.plain_out += frames.close(code, counts)
        else:
            self.out += frames.abort(code)
