"""The application of one session of v2: greets, echoes, and tells what happens.

    Hello, PubKey, Complete on the handshake; then each message comes back on its stream. `bye` on
    `chat` has this side end the session.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from v2.control import Config  # noqa: E402
from v2.kex import HYBRID, SUITES  # noqa: E402
from v2.session import Session  # noqa: E402

HELLO, PUB_KEY, COMPLETE = 1, 2, 3
CHAT = b"chat"
NAMES = (CHAT, b"sync")
# AES is only for processors that have it in hardware, which nothing here says.
OFFERED = (0x0001, 0x0101)


class Application:
    def __init__(self, tell, first=None):
        self.tell, self.first = tell, first
        self.session, self.said, self.heard = None, set(), set()
        self.is_established = False

    def begin(self, identity, entropy, is_i, peer_key, now, binding=None):
        """A session is admitted, and the one that is kept. `binding`: the exporter, if there is one."""
        config = Config(
            identity,
            entropy,
            suites=OFFERED,
            mask=1 if binding is None else 3,
            binding_value=binding or b"",
            names=NAMES,
        )
        self.identity = identity
        self.session = Session(config, is_i, peer_key, now)
        self.session.connected()
        self.say(HELLO)

    def say(self, kind, rest=b""):
        if kind not in self.said:
            self.said.add(kind)
            self.session.send_handshake(bytes([kind]) + rest)

    def work(self, now):
        """Does what is possible now, and returns what is wanted of the transport."""
        session = self.session
        session.poll(now)
        self.hear(now)
        session.poll(now)
        actions, session.actions = session.actions, []
        for what, *rest in actions:
            if what == "close":
                self.tell(event="closed", code=int(rest[0]), **self.account())
        return actions

    def hear(self, now):
        session = self.session
        messages, session.handshake_messages = session.handshake_messages, []
        for message in messages:
            self.heard.add(message[0])
            if message[0] == HELLO:
                self.say(PUB_KEY, self.identity.id)
            elif message[0] == PUB_KEY:
                session.prepare(message[1:], NAMES, now)
                self.say(COMPLETE)
        if {PUB_KEY, COMPLETE} <= self.heard and session.state == "prepared":
            session.finalize(now)
        if session.state == "established" and not self.is_established:
            self.establish()
        received, session.received = session.received, []
        for name, message in received:
            self.tell(event="message", stream=name.decode(), bytes=len(message))
            if (name, message) == (CHAT, b"bye"):
                session.close(now)
            elif session.closing is None:
                session.send(name, message)

    def establish(self):
        self.is_established = True
        control = self.session.control
        self.tell(
            event="established",
            aead=SUITES[control.suite],
            hybrid=control.suite in HYBRID,
            bound=control.binding == 1,
        )
        if self.first is not None:
            self.session.send(CHAT, self.first)

    def account(self):
        """What became of the messages, by the peer's CLOSE or without it (§9.2)."""
        session, counts = self.session, self.session.peer_counts or {}
        outgoing, incoming = session.outgoing.items(), session.incoming.values()
        return {
            "sent": sum(out.given for _, out in outgoing),
            "in_doubt": sum(out.in_doubt(counts.get(name)) for name, out in outgoing),
            "received": sum(one.next - one.lost for one in incoming),
            "errors": [str(what) for kind, *what in session.reports if kind == "error"],
        }
