"""A session of v2 over py-libp2p: the implementation of `../v2`, with substreams of a real transport."""

import os
import sys
from pathlib import Path

import trio
from libp2p.custom_types import TProtocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from v2.control import Config  # noqa: E402
from v2.crypto import Identity  # noqa: E402
from v2.receiving import Source  # noqa: E402
from v2.session import CONTROL, Session  # noqa: E402
from v2.wire import HANDSHAKE_ID, stream_id  # noqa: E402

HELLO, PUB_KEY, COMPLETE = 1, 2, 3
NAME = b"chat"
HANDSHAKE, CHAT = (TProtocol(name.decode()) for name in (HANDSHAKE_ID, stream_id(NAME)))
TICK = 0.02


def now():
    return int(trio.current_time() * 1000)


class Live:
    """One session with the peer on the other side of one connection; greets, and echoes."""

    def __init__(self, host, peer, seed, nursery, tell, first=None):
        self.host, self.peer, self.nursery, self.tell = host, peer, nursery, tell
        self.identity, self.first = Identity(seed), first
        self.session, self.streams, self.said, self.heard = None, {}, set(), set()
        self.is_established = self.is_closed = False

    def begin(self, stream, is_i):
        """The handshake substream is agreed."""
        peer_key = self.peer.extract_public_key().to_bytes()
        config = Config(self.identity, os.urandom(32), names=(NAME,))
        self.session = Session(config, is_i, peer_key, now())
        self.peer_key = peer_key
        self.streams[CONTROL] = self.writer(stream)
        self.session.connected()
        self.say(HELLO)
        self.nursery.start_soon(self.read_control, stream)
        self.nursery.start_soon(self.tick)

    # ---- the transport ---------------------------------------------------------------------------

    def writer(self, stream):
        """Returns where what is to be done to a substream goes, one after the other."""
        send, receive = trio.open_memory_channel(float("inf"))
        self.nursery.start_soon(self.write, stream, receive)
        return send

    async def write(self, stream, wanted):
        try:
            async for what, *rest in wanted:
                if what == "write":
                    await stream.write(rest[0])
                elif what == "fin":
                    await stream.close_write()
                else:
                    await stream.reset()
        except Exception:
            # The reader of the same substream learns of it.
            return

    async def read_control(self, stream):
        try:
            while data := await stream.read(65_536):
                while not self.session.control.wants() and self.session.state != "closed":
                    await trio.sleep(TICK)
                self.session.receive(data, now())
                self.work()
        except Exception:
            pass
        self.session.control_ended(now())
        self.work()

    async def accept(self, stream):
        """Reads a substream that the peer has opened."""
        while self.session is None:
            await trio.sleep(TICK)
        source, handle = Source(), object()
        self.streams[handle] = self.writer(stream)
        if not self.session.offer(handle, NAME, source, now()):
            return await stream.reset()
        try:
            while data := await stream.read(65_536):
                source.data += data
                self.work()
            source.fin = True
        except Exception:
            source.reset = True
        self.work()

    async def open(self):
        try:
            stream = await self.host.new_stream(self.peer, [CHAT])
        except Exception:
            return self.session.refused(NAME, now())
        handle = object()
        self.streams[handle] = self.writer(stream)
        self.session.agreed(handle, NAME, now())
        self.work()
        try:
            what = "bytes" if await stream.read(1) else "fin"
        except Exception:
            what = "reset"
        self.session.reverse(handle, what, now())
        self.work()

    async def tick(self):
        while not self.is_closed:
            self.work()
            await trio.sleep(TICK)

    def work(self):
        """Does what is possible now."""
        self.session.poll(now())
        self.hear()
        self.session.poll(now())
        for what, *rest in self.session.actions:
            if what == "open":
                self.nursery.start_soon(self.open)
            elif what == "close":
                self.is_closed = True
                self.tell(event="closed", code=int(rest[0]))
            else:
                self.streams[rest[0]].send_nowait((what, *rest[1:]))
        self.session.actions.clear()

    # ---- the application -------------------------------------------------------------------------

    def say(self, kind, rest=b""):
        if kind not in self.said:
            self.said.add(kind)
            self.session.send_handshake(bytes([kind]) + rest)

    def hear(self):
        messages, self.session.handshake_messages = self.session.handshake_messages, []
        for message in messages:
            self.heard.add(message[0])
            if message[0] == HELLO:
                self.say(PUB_KEY, self.identity.id)
            elif message[0] == PUB_KEY:
                self.session.prepare(message[1:], (NAME,), now())
                self.say(COMPLETE)
        if {PUB_KEY, COMPLETE} <= self.heard and self.session.state == "prepared":
            self.session.finalize(now())
        if self.session.state == "established" and not self.is_established:
            self.is_established = True
            self.tell(event="established")
            if self.first is not None:
                self.session.send(NAME, self.first)
        received, self.session.received = self.session.received, []
        for name, message in received:
            self.tell(event="message", bytes=len(message))
            self.session.send(name, message)
