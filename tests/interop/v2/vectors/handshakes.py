"""Whole handshakes: two machines, a script of calls and flights, every derived value."""

from ..codes import Code
from ..control import Control, Over
from ..frames import Count, abandon, frame, read_frame
from ..record import PADDED, pad
from ..schedule import I_TO_R, R_TO_I
from .sides import A, B, EXPORTER, NAMES, config, epochs, inputs, pattern, stream_keys

HELLO, COMPLETE = b"\x01", b"\x03"


class Run:
    """Two machines. `call` and `flight` write down what they do."""

    def __init__(self, name, about, i, r, authenticated=True):
        self.name, self.about = name, about
        self.authenticated = authenticated
        self.configs = {"i": i, "r": r}
        ids = (r.identity.id, i.identity.id) if authenticated else (None, None)
        self.sides = {"i": Control(i, True, ids[0]), "r": Control(r, False, ids[1])}
        self.sent = {"i": bytearray(), "r": bytearray()}
        self.steps = []

    def call(self, side, what, **arguments):
        machine = self.sides[side]
        if what == "connected":
            machine.connect()
        elif what == "send_handshake":
            machine.send(arguments["message"])
        elif what == "prepare":
            machine.prepare(arguments["key"])
        elif what == "finalize":
            machine.finalize()
        elif what == "end":
            counts = {n.encode(): Count(*c) for n, c in arguments["counts"].items()}
            machine.end(arguments["code"], counts)
        self.steps.append({"side": side, "call": what, **arguments})

    def connect(self):
        self.call("i", "connected")
        self.call("r", "connected")

    def prepare(self, side):
        other = self.configs["r" if side == "i" else "i"]
        self.call(side, "prepare", key=other.identity.id)

    def record(self, side, kind, content, last=False):
        """A record that no call makes."""
        machine = self.sides[side]
        machine.out += machine.take()
        machine.out += machine.sealer.seal(kind, content, last=last)
        self.steps.append(
            {"side": side, "call": "write_record", "type": kind, "slice": content, "last": last}
        )

    def flight(self, side):
        """All that `side` has written goes to the other."""
        other = self.sides["r" if side == "i" else "i"]
        data = self.sides[side].take()
        self.sent[side] += data
        over = None
        try:
            other.receive(data)
        except Over as end:
            over = int(end.code)
        step = {"side": side, "writes": data, "then_messages": other.messages()}
        step |= {"then_verified": other.verified, "then_peer_finished": other.peer_finished}
        if over is not None:
            step["then_over"] = over
        self.steps.append(step)

    def case(self):
        i, r = self.sides["i"], self.sides["r"]
        s, shares = i.schedule, i.shares
        assert s.ms == r.schedule.ms and i.verified and r.verified
        made = {
            "name": self.name,
            "about": self.about,
            "authenticated": self.authenticated,
            "i": inputs(self.configs["i"]),
            "r": inputs(self.configs["r"]),
            "steps": self.steps,
            "suite": i.suite,
            "binding_type": i.binding,
            "kex_i": i.own_kex.wire,
            "kex_r": r.own_kex.wire,
            "kem_ct": i.kem_ct,
            "th_input": i.transcript.input(),
            "th": s.th,
            "kk": i.kk,
            "ee": shares.ee,
            "es": shares.es,
            "se": shares.se,
            "ss": shares.ss,
            "ms": s.ms,
            "sid": s.sid(),
            "exporter": s.exporter(),
            "i_to_r": self.direction("i", I_TO_R),
            "r_to_i": self.direction("r", R_TO_I),
            "streams": self.streams(),
        }
        return made

    def streams(self):
        """One name, or all of them and more instances in the first case."""
        schedule, full = self.sides["i"].schedule, self.name == "plain"
        return [
            stream_keys(schedule, name, direction, instances=3 if full else 2)
            for name in (NAMES if full else (b"chat",))
            for direction in (I_TO_R, R_TO_I)
        ]

    def direction(self, side, d):
        machine, data = self.sides[side], bytes(self.sent[side])
        schedule, clear, at = machine.schedule, [], 0
        while True:
            kind, body, length = read_frame(data[at:], lambda kind: None)
            clear.append({"type": kind, "body": body, "wire": data[at : at + length]})
            at += length
            if kind == 3:
                break
        hs = machine.hash_out.digest()
        secret = schedule.control(d)
        return {
            "clear": clear,
            "hs": hs,
            "confirm_key": schedule.confirm_key(d),
            "confirm_mac": schedule.confirm(d, hs),
            "control_epochs": epochs(secret, 1 + max([0] + [r["epoch"] for r in machine.trace])),
            "records": machine.trace,
        }


def finish(run):
    """From two verified sides to FINISHED of both. Gives the run."""
    for side in "ir":
        run.prepare(side)
        run.call(side, "finalize")
    run.flight("i")
    run.flight("r")
    return run


def swap(run):
    """KEX of both, then CONFIRM of both; with a KEM, CONFIRM of R one flight later."""
    run.flight("i")
    run.flight("r")
    run.flight("i")
    run.flight("r")


def plain():
    name = "plain"
    run = Run(name, "suite 0x0001, no binding, no message", config(A, name), config(B, name))
    run.connect()
    swap(run)
    return finish(run)


def kex_r_first():
    name = "kex-r-first"
    about = "roles changed: I has the smaller identity; R's KEX arrives first"
    run = Run(name, about, config(B, name), config(A, name))
    run.connect()
    run.flight("r")
    run.flight("i")
    run.flight("r")
    run.flight("i")
    return finish(run)


def greeting():
    name = "greeting"
    about = "the document's greeting: APP before and behind CONFIRM in both directions"
    run = Run(name, about, config(A, name), config(B, name))
    run.connect()
    run.call("i", "send_handshake", message=HELLO)
    run.flight("i")
    run.call("r", "send_handshake", message=HELLO)
    run.call("r", "send_handshake", message=b"\x02" + B.id)
    run.flight("r")
    run.call("i", "send_handshake", message=b"\x02" + A.id)
    run.prepare("i")
    run.call("i", "send_handshake", message=COMPLETE)
    run.flight("i")
    run.prepare("r")
    run.call("r", "send_handshake", message=COMPLETE)
    run.call("r", "finalize")
    run.flight("r")
    run.call("i", "finalize")
    run.flight("i")
    return run


def clear_both():
    name = "clear-both"
    about = "APP in the clear from both sides before either KEX has arrived; an empty message"
    run = Run(name, about, config(A, name), config(B, name))
    run.connect()
    for side in "ir":
        run.call(side, "send_handshake", message=HELLO)
        run.call(side, "send_handshake", message=b"")
        run.call(side, "send_handshake", message=pattern(300))
    swap(run)
    return finish(run)


def aes_exporter():
    name = "aes-exporter"
    about = "suite 0x0002 and the TLS exporter; suites repeated, unknown and in another order"
    i = config(A, name, suites=(1, 2), mask=3, binding_value=EXPORTER)
    r = config(B, name, suites=(0xFADE, 2, 1, 2), mask=3, binding_value=EXPORTER)
    run = Run(name, about, i, r)
    run.connect()
    swap(run)
    return finish(run)


def exporter_demanded():
    name = "exporter-demanded"
    about = "I demands a binding (mask 2); R's mask has an unknown bit; roles changed"
    i = config(B, name, mask=2, binding_value=EXPORTER)
    r = config(A, name, mask=0x83, binding_value=EXPORTER)
    run = Run(name, about, i, r)
    run.connect()
    swap(run)
    return finish(run)


def exporter_one_side():
    name = "exporter-one-side"
    about = "only R has the exporter: binding type 0, its value is not in th"
    run = Run(name, about, config(A, name), config(B, name, mask=3, binding_value=EXPORTER))
    run.connect()
    swap(run)
    return finish(run)


def extensions_and_context():
    name = "extensions-and-context"
    about = "unknown extensions on both sides, one empty; an application context"
    i = config(A, name, extensions=((0xFADE, b"abc"), (0xFFFF, b"")), app=b"network 7")
    r = config(B, name, extensions=((0x0000, pattern(40)),), app=b"network 7")
    run = Run(name, about, i, r)
    run.connect()
    swap(run)
    return finish(run)


def hybrid(name, about, suites_i, suites_r, i=A, r=B, extensions=()):
    run = Run(
        name,
        about,
        config(i, name, suites=suites_i),
        config(r, name, suites=suites_r, extensions=extensions),
    )
    run.connect()
    run.call("i", "send_handshake", message=HELLO)
    swap(run)
    return finish(run)


def kem_not_used():
    name = "kem-not-used"
    about = "R offers hybrid and sends its KEM key, I does not: no KEM_CT"
    run = Run(name, about, config(A, name), config(B, name, suites=(0x0101, 0x0001)))
    run.connect()
    swap(run)
    return finish(run)


def unauthenticated():
    name = "unauthenticated"
    about = "a transport that doesn't authenticate: CONFIRM waits for prepare; R's records are held"
    run = Run(name, about, config(A, name), config(B, name), authenticated=False)
    run.connect()
    for side, identity in (("i", A), ("r", B)):
        run.call(side, "send_handshake", message=HELLO)
        run.call(side, "send_handshake", message=b"\x02" + identity.id)
    run.flight("i")
    run.flight("r")
    run.prepare("r")
    run.call("r", "send_handshake", message=COMPLETE)
    run.call("r", "finalize")
    run.flight("r")
    run.prepare("i")
    run.call("i", "send_handshake", message=COMPLETE)
    run.call("i", "finalize")
    run.flight("i")
    return run


def unauthenticated_hybrid():
    name = "unauthenticated-hybrid"
    about = "hybrid where only prepare gives the identities: KEM_CT does not wait for prepare"
    i, r = (config(x, name, suites=(0x0102, 0x0001)) for x in (B, A))
    run = Run(name, about, i, r, authenticated=False)
    run.connect()
    run.flight("i")
    run.flight("r")
    run.flight("i")
    run.call("i", "send_handshake", message=HELLO)
    run.flight("i")
    run.prepare("i")
    run.flight("i")
    run.prepare("r")
    run.flight("r")
    run.call("i", "finalize")
    run.call("r", "finalize")
    run.flight("r")
    run.flight("i")
    return run


def straddling():
    name = "straddling"
    about = "sealed frames that straddle records at every offset; empty records; padding"
    run = Run(name, about, config(A, name), config(B, name))
    run.connect()
    swap(run)
    run.prepare("i")
    stream = frame(0x10, b"abc") + frame(0x10) + frame(0x10, pattern(130))
    cuts = [0, *range(10), len(stream)]
    for begin, end in zip(cuts, cuts[1:]):
        run.record("i", 0, stream[begin:end])
    run.record("i", PADDED, pad(frame(0x10, b"padded"), 20))
    run.record("i", PADDED, pad(b"", 5))
    run.record("i", PADDED, pad(frame(0x10, b"no zeros"), 0))
    run.flight("i")
    run.call("r", "send_handshake", message=pattern(16_500))
    run.flight("r")
    return finish(run)


def after_established():
    name = "after-established"
    about = "rekeys of the control channel, reserved frames, ABANDON, CLOSE of both sides"
    run = Run(name, about, config(A, name), config(B, name))
    run.connect()
    swap(run)
    for side in "ir":
        run.prepare(side)
        run.call(side, "finalize")
    run.flight("i")
    run.flight("r")
    run.record("i", 0, b"", last=True)
    run.record("i", 0, frame(0x80, b"later") + abandon(7, b"chat"), last=True)
    run.record("i", PADDED, pad(frame(0xFF), 3), last=True)
    run.flight("i")
    run.call("i", "end", code=int(Code.DONE), counts={"chat": [3, 2, 0], "sync": [0, 300, 1]})
    run.flight("i")
    run.call("r", "end", code=int(Code.DONE), counts={})
    run.flight("r")
    return run


def runs():
    both = (0x0101, 0x0001)
    return [
        plain(),
        kex_r_first(),
        greeting(),
        clear_both(),
        aes_exporter(),
        exporter_demanded(),
        exporter_one_side(),
        extensions_and_context(),
        hybrid("hybrid-chacha", "suite 0x0101", both, both),
        hybrid("hybrid-aes", "suite 0x0102, roles changed", (2, 0x0102), (0x0101, 0x0102), B, A),
        hybrid(
            "hybrid-rank",
            "0x0101 is better than the common 0x0002; an extension behind the KEM key",
            (0x0001, 0x0002, 0x0101),
            (0x0002, 0x0001, 0x0101),
            extensions=((0x0002, b"later"),),
        ),
        kem_not_used(),
        unauthenticated(),
        unauthenticated_hybrid(),
        straddling(),
        after_established(),
    ]


def cases():
    return [run.case() for run in runs()]
