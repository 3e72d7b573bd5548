"""A session of v2 over py-libp2p: the implementation of `../v2`, with substreams of a real transport."""

import os

import trio
from application import NAMES, Application
from libp2p.custom_types import TProtocol
from v2.crypto import Identity
from v2.receiving import Source
from v2.session import CONTROL
from v2.wire import HANDSHAKE_ID, stream_id

HANDSHAKE = TProtocol(HANDSHAKE_ID.decode())
STREAMS = {name: TProtocol(stream_id(name).decode()) for name in NAMES}
TICK = 0.02


def now():
    return int(trio.current_time() * 1000)


class Live:
    """One session with the peer on the other side of one connection."""

    def __init__(self, host, peer, seed, nursery, tell, first=None):
        self.host, self.peer, self.nursery = host, peer, nursery
        self.identity, self.streams = Identity(seed), {}
        self.application = Application(tell, first)
        self.is_closed = False

    @property
    def session(self):
        return self.application.session

    def begin(self, stream, is_i):
        """The handshake substream is agreed."""
        self.streams[CONTROL] = self.writer(stream)
        peer_key = self.peer.extract_public_key().to_bytes()
        self.application.begin(self.identity, os.urandom(32), is_i, peer_key, now())
        self.nursery.start_soon(self.read_control, stream)
        self.nursery.start_soon(self.tick)

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

    async def accept(self, stream, name):
        """Reads a substream that the peer has opened."""
        while self.session is None:
            await trio.sleep(TICK)
        source, handle = Source(), object()
        self.streams[handle] = self.writer(stream)
        if not self.session.offer(handle, name, source, now()):
            return await stream.reset()
        try:
            while data := await stream.read(65_536):
                source.data += data
                self.work()
            source.fin = True
        except Exception:
            source.reset = True
        self.work()

    async def open(self, name):
        try:
            stream = await self.host.new_stream(self.peer, [STREAMS[name]])
        except Exception:
            return self.session.refused(name, now())
        handle = object()
        self.streams[handle] = self.writer(stream)
        self.session.agreed(handle, name, now())
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
        for what, *rest in self.application.work(now()):
            if what == "open":
                self.nursery.start_soon(self.open, rest[0])
            elif what == "close":
                # The connection belongs to the host, which has no other use for it.
                self.is_closed = True
            else:
                self.streams[rest[0]].send_nowait((what, *rest[1:]))
