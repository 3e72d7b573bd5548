"""A small Glueberry peer over py-libp2p, written from the description of the protocol.

It greets, and echoes what it gets on `chat`. One JSON object per line goes out: what happened.

    python peer.py --transport tcp --profile v1|v1-go|v2 [--habit none|leaves] [--dial ADDRESS]
"""

import argparse
import json
import os
import struct
import sys

import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from libp2p import new_host
from libp2p.crypto.ed25519 import Ed25519PublicKey, create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr
from live import HANDSHAKE as HANDSHAKE_V2
from live import STREAMS as STREAMS_V2
from live import Live
from nacl.bindings import (
    crypto_scalarmult,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_seed_keypair,
)

HELLO, PUB_KEY, COMPLETE = 1, 2, 3
CHAT = TProtocol("/glueberry/stream/chat/1.0.0")
HANDSHAKES = {
    "v1": TProtocol("/glueberry/handshake/1.0.0"),
    "v1-go": TProtocol("/glueberry/stream/handshake/1.0.0"),
}


def tell(**what):
    print(json.dumps(what), flush=True)


# ---- the wire ------------------------------------------------------------------------------------


def shared_key(seed, peer):
    _, secret = crypto_sign_seed_keypair(seed)
    raw = crypto_scalarmult(
        crypto_sign_ed25519_sk_to_curve25519(secret), crypto_sign_ed25519_pk_to_curve25519(peer)
    )
    return HKDF(SHA256(), 32, None, b"glueberry-v1-stream-key").derive(raw)


def seal(key, message):
    nonce = os.urandom(12)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, message, None)


def unseal(key, record):
    return ChaCha20Poly1305(key).decrypt(record[:12], record[12:], None)


def varint(number):
    encoded = b""
    while number >= 128:
        encoded += bytes([number % 128 | 128])
        number //= 128
    return encoded + bytes([number])


class Framed:
    """A substream that carries frames of one profile."""

    def __init__(self, stream, profile):
        self.stream, self.profile, self.buffer = stream, profile, b""
        self.writing = trio.Lock()

    async def write(self, payload):
        if self.profile == "v1":
            frame = struct.pack(">I", len(payload)) + payload
        else:
            inner = varint(len(payload)) + payload
            frame = varint(len(inner)) + inner
        async with self.writing:
            await self.stream.write(frame)

    async def read(self):
        if self.profile == "v1":
            (size,) = struct.unpack(">I", await self.take(4))
            return await self.take(size)
        body = await self.take(await self.varint())
        at, size = 0, 0
        while True:
            size |= (body[at] & 127) << 7 * at
            at += 1
            if body[at - 1] < 128:
                return body[at : at + size]

    async def varint(self):
        number, shift = 0, 0
        while True:
            (byte,) = await self.take(1)
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    async def take(self, size):
        parts, have = [self.buffer], len(self.buffer)
        while have < size:
            part = await self.stream.read(65536)
            if not part:
                raise EOFError
            parts.append(part)
            have += len(part)
        whole = b"".join(parts)
        self.buffer = whole[size:]
        return whole[:size]


# ---- the application -----------------------------------------------------------------------------


class Session:
    """One session, with the peer on the other side of one connection."""

    def __init__(self, host, peer, seed, profile):
        self.host, self.peer, self.seed, self.profile = host, peer, seed, profile
        self.handshake, self.key, self.said, self.heard = None, None, set(), set()
        self.prepared = trio.Event()

    async def greet(self, stream=None):
        """Holds the handshake on a substream of the peer, or on one of its own."""
        if stream is None:
            stream = await self.host.new_stream(self.peer, [HANDSHAKES[self.profile]])
        self.handshake = Framed(stream, self.profile)
        await self.say(HELLO)
        while not {COMPLETE, PUB_KEY} <= self.heard or COMPLETE not in self.said:
            message = await self.handshake.read()
            self.heard.add(message[0])
            if message[0] == HELLO:
                await self.say(PUB_KEY, self.host.get_public_key().to_bytes())
            elif message[0] == PUB_KEY:
                peer = Ed25519PublicKey.from_bytes(message[1:])
                assert ID.from_pubkey(peer) == self.peer, "wrong key"
                self.key = shared_key(self.seed, message[1:])
                self.prepared.set()
                await self.say(COMPLETE)
        tell(event="established")

    async def say(self, kind, rest=b""):
        if kind not in self.said:
            self.said.add(kind)
            await self.handshake.write(bytes([kind]) + rest)

    async def echo(self, stream):
        """Sends back what comes on a named stream."""
        await self.prepared.wait()
        framed = Framed(stream, self.profile)
        while True:
            message = unseal(self.key, await framed.read())
            tell(event="message", bytes=len(message))
            await framed.write(seal(self.key, message))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=["tcp"], default="tcp")
    parser.add_argument("--profile", choices=[*HANDSHAKES, "v2"], default="v1")
    parser.add_argument("--habit", choices=["none", "leaves"], default="none")
    parser.add_argument("--dial")
    args = parser.parse_args()
    seed, sessions = os.urandom(32), {}
    host = new_host(key_pair=create_new_key_pair(seed))
    if args.profile == "v2":
        return await speak_v2(host, seed, args.dial)

    def session_of(peer):
        if peer not in sessions:
            sessions[peer] = Session(host, peer, seed, args.profile)
        return sessions[peer]

    async def until_it_ends(work):
        # A substream ends with its connection in one of many ways.
        try:
            await work
        except Exception:
            tell(event="closed")

    async def on_handshake(stream):
        await until_it_ends(session_of(stream.muxed_conn.peer_id).greet(stream))

    async def on_chat(stream):
        await until_it_ends(session_of(stream.muxed_conn.peer_id).echo(stream))

    host.set_stream_handler(HANDSHAKES[args.profile], on_handshake)
    host.set_stream_handler(CHAT, on_chat)
    async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        address = str(host.get_addrs()[0])
        tell(event="listening", address=address, id=str(host.get_id()))
        async with trio.open_nursery() as nursery:
            if args.dial:
                info = info_from_p2p_addr(Multiaddr(args.dial))
                await host.connect(info)
                session = session_of(info.peer_id)
                await session.greet()
                chat = await host.new_stream(info.peer_id, [CHAT])
                await Framed(chat, args.profile).write(seal(session.key, b"first"))
                nursery.start_soon(until_it_ends, session.echo(chat))
            # Ends with the process that has started it.
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


async def speak_v2(host, seed, dial):
    """Has sessions of v2, until the process that has started this one ends it."""
    sessions = {}
    async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        async with trio.open_nursery() as nursery:

            def session_of(peer, first=None):
                if peer not in sessions:
                    sessions[peer] = Live(host, peer, seed, nursery, tell, first)
                return sessions[peer]

            async def on_handshake(stream):
                session_of(stream.muxed_conn.peer_id).begin(stream, is_i=False)

            def handler(name):
                async def on_stream(stream):
                    await session_of(stream.muxed_conn.peer_id).accept(stream, name)

                return on_stream

            host.set_stream_handler(HANDSHAKE_V2, on_handshake)
            for name, protocol in STREAMS_V2.items():
                host.set_stream_handler(protocol, handler(name))
            tell(event="listening", address=str(host.get_addrs()[0]), id=str(host.get_id()))
            if dial:
                info = info_from_p2p_addr(Multiaddr(dial))
                await host.connect(info)
                stream = await host.new_stream(info.peer_id, [HANDSHAKE_V2])
                session_of(info.peer_id, first=b"first").begin(stream, is_i=True)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


trio.run(main)
