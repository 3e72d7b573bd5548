"""A Session under test: it repeats the steps of a handshake, then takes what a case gives it."""

from ..receiving import Source
from ..session import CONTROL, Session
from .sides import NAMES


class UnderTest:
    """One side as a Session. `seen` is what happened since it was asked last."""

    def __init__(self, config, is_i, peer_id):
        self.session = Session(config, is_i, peer_id)
        self.now = 0
        self.sources = {}
        self.wrote, self.actions = bytearray(), []
        self._poll()

    @classmethod
    def after(cls, run, side):
        """The state behind the last step of a handshake."""
        other = "r" if side == "i" else "i"
        peer_id = run.configs[other].identity.id if run.authenticated else None
        made = cls(run.configs[side], side == "i", peer_id)
        for step in run.steps:
            if step["side"] == side and "call" in step:
                made.call(step["call"], step)
            elif step["side"] == other and "writes" in step:
                made.reads(step["writes"])
        assert bytes(made.wrote) == bytes(run.sent[side]), run.name
        made.seen()
        return made

    def call(self, what, arguments):
        if what == "connected":
            self.session.connected()
        elif what == "send_handshake":
            self.session.send_handshake(arguments["message"])
        elif what == "prepare":
            self.session.prepare(arguments["key"], NAMES)
        elif what == "finalize":
            self.session.finalize(self.now)
        elif what == "reject":
            self.session.reject(self.now)
        else:
            raise ValueError(what)
        self._poll()

    def reads(self, data):
        """Bytes of the handshake substream."""
        self.session.receive(data, self.now)
        self._poll()

    def control_ends(self):
        self.session.control_ended(self.now)
        self._poll()

    def offer(self, key, name):
        self.sources[key] = Source()
        accepted = self.session.offer(key, name, self.sources[key], self.now)
        self._poll()
        return accepted

    def substream(self, key, data):
        self.sources[key].data += data
        self._poll()

    def ends(self, key, how):
        setattr(self.sources[key], how, True)
        self._poll()

    def wait(self, ms):
        self.now += ms
        self._poll()

    def _poll(self):
        self.session.poll(self.now)
        for action in self.session.actions:
            if action[0] == "write" and action[1] == CONTROL:
                self.wrote += action[2]
        self.actions += self.session.actions
        self.session.actions.clear()

    def seen(self):
        """Messages, reports, resets and FINs since the last call, for JSON."""
        session, out = self.session, {}
        if session.handshake_messages:
            out["then_handshake_messages"] = session.handshake_messages
        if session.received:
            out["then_messages"] = [[name.decode(), data] for name, data in session.received]
        reports = [[r[0], r[1].decode(), *r[2:]] for r in session.reports if r[0] != "error"]
        if reports:
            out["then_reports"] = reports
        if session.state == "closed":
            out["then_ended"] = int(session.end_code)
        else:
            for what in ("reset", "fin"):
                done = [list(a[1:]) for a in self.actions if a[0] == what]
                if done:
                    out[f"then_{what}"] = done if what == "reset" else [a[0] for a in done]
        session.handshake_messages, session.received = [], []
        session.reports, self.actions = [], []
        return out
