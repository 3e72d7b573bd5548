"""What a side accepts and refuses on the handshake substream, until it is established (§6, §11)."""

from ..codes import Code
from ..control import Control
from ..crypto import P, sha256
from ..frames import abandon, abort, close, frame
from ..kex import KEM_KEY, SUITES, make_kex
from ..mlkem import keygen
from ..record import DATA, Sealer
from ..schedule import I_TO_R, R_TO_I
from ..wire import u16
from .handshakes import Run
from .replay import UnderTest
from .sides import A, B, EXPORTER, config, inputs, pattern
from .stream_errors import flipped

SEED = "errors"
SMALL_ORDER = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")


def sides(i=None, r=None):
    return config(A, SEED, **(i or {})), config(B, SEED, **(r or {}))


def short(side):
    """The inputs without what is derived from them alone."""
    derived = ("x25519", "x25519_private", "hedge_key", "hedge_prk", "names")
    return {name: value for name, value in inputs(side).items() if name not in derived}


class Case:
    """`side` is under test; the other side's bytes are made here by hand from its own run."""

    def __init__(self, name, about, side="r", i=None, r=None, authenticated=True, calls=("connected",)):
        self.name, self.about, self.side = name, about, side
        self.other = "i" if side == "r" else "r"
        self.authenticated = authenticated
        self.configs = dict(zip("ir", sides(i, r)))
        self.steps = []
        peer_id = self.configs[self.other].identity.id if authenticated else None
        self.under_test = UnderTest(self.configs[side], side == "i", peer_id)
        self.peer = self.configs[self.other]
        self.first = bytes(self.under_test.wrote)  # own KEX with its varint
        for call in calls:
            self.call(call)

    def _do(self, act, **step):
        # A session that has ended before the last step is a mistake of the case.
        assert all("then_ended" not in s for s in self.steps), self.name
        before = len(self.under_test.wrote)
        act()
        step |= self.under_test.seen()
        wrote = bytes(self.under_test.wrote[before:])
        if wrote:
            step["then_writes"] = wrote
        self.steps.append(step)

    def call(self, what, **arguments):
        if what == "prepare":
            arguments = {"key": self.peer.identity.id}
        self._do(lambda: self.under_test.call(what, arguments), call=what, **arguments)

    def reads(self, data):
        self._do(lambda: self.under_test.reads(data), reads=data)

    def ends(self):
        self._do(self.under_test.control_ends, control_ends=True)

    # What the other side would write.

    def kex_wire(self, mask=None, suites=None, ephemeral=None, extensions=None):
        p, kem = self.peer, []
        suites = p.suites if suites is None else suites
        if self.other == "r" and any(s in (0x0101, 0x0102) for s in suites):
            kem = [(KEM_KEY, keygen(p.ephemerals.kem_seed)[1])]
        extensions = [*kem, *p.extensions] if extensions is None else extensions
        mask = p.mask if mask is None else mask
        return make_kex(mask, suites, ephemeral or p.ephemerals.public, extensions).wire

    def kex(self, **changes):
        return frame(0x01, self.kex_wire(**changes)[1:])

    def genuine(self):
        """A run of both sides; its schedule, and what the other wrote before CONFIRM."""
        run = Run("", "", *self.configs.values())
        for side in "irir":
            run.flight(side)
        return run

    def kem_ct(self):
        return frame(0x02, self.genuine().sides["i"].kem_ct[1:])

    def confirm(self, *before):
        """CONFIRM of the other side behind the bytes `before`."""
        schedule = self.genuine().sides["i"].schedule
        direction = I_TO_R if self.other == "i" else R_TO_I
        return frame(0x03, schedule.confirm(direction, sha256(b"".join(before))))

    def sealer(self):
        machine = self.genuine().sides["i"]
        direction = I_TO_R if self.other == "i" else R_TO_I
        return Sealer(SUITES[machine.suite], machine.schedule.control(direction))

    def confirmed(self, *behind):
        """The other side's KEX, CONFIRM and one record for each of `behind`."""
        kex, sealer = self.kex(), self.sealer()
        return kex + self.confirm(kex) + b"".join(sealer.seal(DATA, data) for data in behind)

    def case(self, code=None):
        ended = self.steps[-1].get("then_ended") if self.steps else None
        assert code is None or ended == code, (self.name, ended, code)
        made = {
            "name": self.name,
            "about": self.about,
            "side": self.side,
            "authenticated": self.authenticated,
            "i": short(self.configs["i"]),
            "r": short(self.configs["r"]),
            "first_writes": self.first,
            "steps": self.steps,
        }
        if code is not None:
            made |= {"code": int(code), "code_name": code.name}
        return made


class Refused:
    """`act(case)` gives what is read; the last item ends the session with `code`."""

    def __init__(self, name, code, about, act, **more):
        self.name, self.code, self.about, self.act, self.more = name, code, about, act, more

    def case(self):
        case = Case(self.name, self.about, **self.more)
        for data in self.act(case):
            case.reads(data)
        return case.case(self.code)


def frames():
    """Lengths and layout."""
    bad = Code.BAD_FRAME

    def refused(name, about, act, **more):
        return Refused(name, bad, about, act, **more)

    yield refused("n-0", "n = 0", lambda c: [b"\0"])
    yield refused("n-not-minimal", "n = 80 00", lambda c: [b"\x80\0"])
    yield refused("n-not-minimal-kex", "KEX whose n is not minimal", lambda c: [b"\xa6\0" + c.kex_wire()])
    yield refused("n-four-bytes", "a fourth byte is announced", lambda c: [b"\xa6\x80\x80"])
    yield refused("n-65538", "above every maximum, before the type", lambda c: [b"\x82\x80\x04"])
    yield refused("kex-4097", "KEX with n = 4,097, before the body", lambda c: [b"\x81\x20\x01"])
    wire = Case("", "").kex_wire()
    for name, about, body in (
        ("kex-empty", "KEX with n = 1", b""),
        ("kex-version-1", "version 1", b"\x01" + wire[2:]),
        ("kex-version-3", "version 3", b"\x03" + wire[2:]),
        ("kex-k-0", "k = 0", wire[1:3] + b"\0" + wire[6:]),
        ("kex-k-33", "k = 33", wire[1:3] + b"\x21" + bytes([0, 1]) * 33 + wire[6:]),
        ("kex-suites-cut", "ends in the suites", wire[1:3] + b"\x03" + wire[4:8]),
        ("kex-ephemeral-cut", "31 bytes of the ephemeral", wire[1:-1]),
        ("kex-extension-3", "3 bytes behind the ephemeral", wire[1:] + bytes(3)),
        ("kex-extension-cut", "an extension beyond the end", wire[1:] + b"\xfa\xde\0\x02x"),
        ("kex-extension-tail", "a byte behind an extension", wire[1:] + b"\xfa\xde\0\x01xy"),
        ("kex-extension-order", "types descend", wire[1:] + b"\0\x03\0\0\0\x02\0\0"),
        ("kex-extension-twice", "a type twice", wire[1:] + b"\0\x03\0\0\0\x03\0\0"),
    ):
        yield refused(name, about, lambda c, body=body: [frame(0x01, body)])
    key = keygen(bytes(64))[1]
    extra = [(KEM_KEY, key)]
    yield refused("kem-key-of-i", "I sends a KEM key", lambda c: [c.kex(suites=(1, 0x0101), extensions=extra)])
    yield refused("kem-key-missing", "R offers hybrid without it", lambda c: [c.kex(suites=(0x0101,), extensions=[])], side="i")
    yield refused("kem-key-too-much", "R does not offer hybrid", lambda c: [c.kex(extensions=extra)], side="i")
    yield refused("kem-key-unknown-suite", "R offers 0x0103, which is unknown, not hybrid", lambda c: [c.kex(suites=(0x0103, 1), extensions=extra)], side="i")
    hybrid = {"suites": (0x0101, 1)}
    for n, head in (("1088", b"\xc0\x08"), ("1090", b"\xc2\x08")):
        yield refused(f"kem-ct-{n}", f"KEM_CT with n = {n}", lambda c, head=head: [c.kex(), head + b"\x02"], i=hybrid, r=hybrid)
    for n in (32, 34):
        yield refused(f"confirm-{n}", f"CONFIRM with n = {n}", lambda c, n=n: [c.kex(), bytes([n, 3])])
    yield refused("abort-2", "ABORT with n = 2", lambda c: [b"\x02\x05"])
    yield refused("n-before-gate", "CONFIRM first, and with a wrong n", lambda c: [b"\x20\x03"])


def gate():
    wrong = Code.UNEXPECTED_FRAME

    def refused(name, about, act, **more):
        return Refused(f"gate-{name}", wrong, about, act, **more)

    every = {
        "kem-ct": frame(0x02, bytes(1088)),
        "confirm": frame(0x03, bytes(32)),
        "finished": frame(0x04),
        "app": frame(0x10, b"\x01"),
        "close": close(0, {}),
        "abandon": abandon(0, b"chat"),
        "reserved": frame(0x80),
        "type-0": frame(0x00),
        "type-6": frame(0x06),
        "type-127": frame(0x7F),
    }
    for name, data in every.items():
        yield refused(f"first-{name}", "before KEX", lambda c, data=data: [data])
    for name, data in every.items():
        if name not in ("app", "confirm"):
            yield refused(f"clear-{name}", "behind KEX", lambda c, data=data: [c.kex(), data])
    yield refused("clear-kex", "KEX twice", lambda c: [c.kex(), c.kex()])
    hybrid = {"suites": (0x0101, 1)}
    both = {"i": hybrid, "r": hybrid}
    yield refused("kem-ct-twice", "KEM_CT twice", lambda c: [c.kex(), c.kem_ct(), c.kem_ct()], **both)
    yield refused("kem-ct-of-r", "KEM_CT from R", lambda c: [c.kex(), c.kem_ct()], side="i", **both)
    yield refused("no-kem-ct", "CONFIRM of I without KEM_CT", lambda c: [c.kex(), frame(0x03, bytes(32))], **both)
    sealed = {
        "kex": frame(0x01, bytes(40)),
        "kem-ct": frame(0x02, bytes(1088)),
        "confirm": frame(0x03, bytes(32)),
        "abort": abort(0),
        "type-127": frame(0x7F),
    }
    for name, data in sealed.items():
        yield refused(f"sealed-{name}", "behind CONFIRM", lambda c, data=data: [c.confirmed(), c.sealer().seal(DATA, data)])
    late = frame(0x04) + frame(0x10)
    yield refused("app-behind-finished", "in one record", lambda c: [c.confirmed(late)])


def keys():
    bad = Code.BAD_KEY

    def refused(name, about, make, **more):
        return Refused(f"ephemeral-{name}", bad, about, lambda c: [c.kex(ephemeral=make(c))], **more)

    yield refused("top-bit", "the top bit is set", lambda c: c.peer.ephemerals.public[:31] + bytes([c.peer.ephemerals.public[31] | 128]))
    yield refused("p", "2^255 - 19", lambda c: P.to_bytes(32, "little"))
    yield refused("p-9", "2^255 - 10, that is 9", lambda c: (P + 9).to_bytes(32, "little"))
    yield refused("own", "the receiver's own ephemeral", lambda c: c.configs[c.side].ephemerals.public)
    yield refused("own-i", "the same, I refuses", lambda c: c.configs[c.side].ephemerals.public, side="i")
    yield refused("own-identity", "u of the receiver's identity", lambda c: c.configs[c.side].identity.u)
    for name, value in (("0", bytes(32)), ("1", b"\x01" + bytes(31)), ("order-8", SMALL_ORDER), ("p-1", (P - 1).to_bytes(32, "little"))):
        yield refused(f"small-{name}", "small order: ee is zero", lambda c, value=value: value)
    hybrid = {"suites": (0x0101,)}
    key = keygen(bytes(64))[1]
    for name, value in (
        ("short", key[:-1]),
        ("long", key + b"\0"),
        ("modulus", b"\x01\x0d" + key[2:]),  # the first coefficient is 3,329
    ):
        extensions = [(KEM_KEY, value)]
        yield Refused(
            f"kem-key-{name}", bad, "KEM key refused by I",
            lambda c, e=extensions: [c.kex(extensions=e)], side="i", i=hybrid, r=hybrid,
        )  # fmt: skip
    yield Refused("order-ephemeral", bad, "ephemeral and suites wrong", lambda c: [c.kex(ephemeral=bytes(31) + b"\xff", suites=(9,))])
    none = Code.NO_COMMON_SUITE
    yield Refused("no-suite", none, "the peer has 0x0002 only", lambda c: [c.kex(suites=(2,))])
    yield Refused("no-suite-unknown", none, "only unknown ones", lambda c: [c.kex(suites=(0, 0xFFFF, 0x0103))])
    yield Refused("no-suite-hybrid", none, "hybrid is demanded", lambda c: [c.kex()], r=hybrid)
    yield Refused("order-suite", none, "suite and binding wrong", lambda c: [c.kex(suites=(2,), mask=0)])
    yield Refused("order-zero", none, "suite wrong, ephemeral of small order", lambda c: [c.kex(suites=(2,), ephemeral=bytes(32))])
    binding = Code.NO_COMMON_BINDING
    yield Refused("no-binding", binding, "mask 0", lambda c: [c.kex(mask=0)])
    yield Refused("no-binding-demanded", binding, "mask 2 against 1", lambda c: [c.kex(mask=2)])
    yield Refused("no-binding-unknown", binding, "only unknown bits in common", lambda c: [c.kex(mask=0xFC)], r={"mask": 0xFD})
    yield Refused("order-binding", binding, "binding wrong and the KEM key too", lambda c: [c.kex(mask=0, extensions=[(KEM_KEY, b"")])], side="i", i=hybrid, r=hybrid)


def confirms():
    bad = Code.BAD_CONFIRM

    def refused(name, about, act, **more):
        return Refused(f"confirm-{name}", bad, about, act, **more)

    def altered(make):
        def act(case):
            genuine, wire = make(case)
            return [wire, case.confirm(genuine)]

        return act

    app = frame(0x10, b"\x01")
    yield refused("flipped", "a bit of the MAC", lambda c: [c.kex(), flipped(c.confirm(c.kex()), -1)])
    yield refused("other-side", "the MAC of the other direction", other_side)
    yield refused("app-changed", "an APP frame was changed", altered(lambda c: (c.kex() + app, c.kex() + frame(0x10, b"\x02"))))
    yield refused("app-removed", "an APP frame was removed", altered(lambda c: (c.kex() + app, c.kex())))
    yield refused("app-added", "an APP frame was added", altered(lambda c: (c.kex(), c.kex() + app)))
    yield refused("app-divided", "one APP frame became two", altered(lambda c: (c.kex() + frame(0x10, b"\x01\x02"), c.kex() + app + frame(0x10, b"\x02"))))
    yield refused("suite-stripped", "I's better suite was removed", altered(lambda c: (c.kex(), c.kex(suites=(1,)))), i={"suites": (2, 1)}, r={"suites": (2, 1)})
    yield refused("suite-order", "I's suites in another order", altered(lambda c: (c.kex(), c.kex(suites=(1, 2)))), i={"suites": (2, 1)}, r={"suites": (2, 1)})
    yield refused("extension-stripped", "an unknown extension was removed", altered(lambda c: (c.kex(), c.kex(extensions=[]))), i={"extensions": ((0xFADE, b"abc"),)})
    yield refused("binding-stripped", "I's exporter bit was removed", altered(lambda c: (c.kex(), c.kex(mask=1))), **exporters(EXPORTER, EXPORTER))
    yield refused("binding-value", "another connection's exporter", with_run, **exporters(EXPORTER, bytes(32)))
    yield refused("application-context", "another application context", with_run, i={"app": b"one"}, r={"app": b"two"})
    hybrid = {"suites": (0x0102, 1)}
    both = {"i": hybrid, "r": hybrid}
    yield refused("kem-ct", "a bit of KEM_CT: implicit rejection", changed_ciphertext, **both)
    yield Refused("confirm-of-r", bad, "I refuses too", lambda c: [c.kex() + flipped(c.confirm(c.kex()), 9)], side="i")


def exporters(i, r):
    return {"i": {"mask": 3, "binding_value": i}, "r": {"mask": 3, "binding_value": r}}


def other_side(case):
    schedule = case.genuine().sides["i"].schedule
    return [case.kex(), frame(0x03, schedule.confirm(R_TO_I, sha256(case.kex())))]


def with_run(case):
    """What the other side writes by its own inputs."""
    machine = Control(case.peer, case.other == "i", case.configs[case.side].identity.id)
    kex = machine.take()
    machine.connect()
    machine.receive(bytes(case.under_test.wrote))
    return [kex, machine.take()]


def changed_ciphertext(case):
    kex, genuine = case.kex(), case.kem_ct()
    wire = flipped(genuine, 500)
    return [kex, wire, case.confirm(kex, wire)]


def later():
    """Behind CONFIRM, not established."""
    yield Refused("sealed-tag", Code.RECORD_AUTH, "the first record is changed", lambda c: [c.confirmed(), flipped(c.sealer().seal(DATA, frame(0x04)), -1)])
    yield Refused("sealed-close-record", Code.BAD_RECORD, "a close record", lambda c: [c.confirmed(), c.sealer().seal(1, u16(0))])
    yield Refused("sealed-n", Code.BAD_FRAME, "n = 0 in a record", lambda c: [c.confirmed(b"\0")])
    large = frame(0x10, pattern(65_000))
    calls = ("connected", "prepare", "finalize")
    yield Refused("dropped-clear", Code.LIMIT, "65,537 bytes of APP behind one's own finalize", lambda c: [c.kex() + large, frame(0x10, bytes(536)), frame(0x10), frame(0x10, b"x")], calls=calls)
    yield Refused("unconnected-confirm", Code.BAD_CONFIRM, "a wrong CONFIRM before connected: ABORT, since CONFIRM was not written", lambda c: [c.kex(), flipped(c.confirm(c.kex()), 9)], calls=())
    case = Case("lost-first", "the substream ends before KEX", calls=())
    case.ends()
    yield case_of(case, Code.HANDSHAKE_FAILED)
    case = Case("lost-sealed", "the substream ends behind CONFIRM", calls=calls[:2])
    case.reads(case.confirmed(frame(0x04)))
    case.ends()
    yield case_of(case, Code.HANDSHAKE_FAILED)
    case = Case("reject", "the application rejects: ABORT in the clear", calls=calls[:1])
    case.call("reject")
    yield case_of(case, Code.REJECTED)
    for name, code, about, read in (
        ("prepare-confirm", Code.BAD_CONFIRM, "a held CONFIRM is wrong: ends within prepare",
         lambda c: c.kex() + flipped(c.confirm(c.kex()), 9)),
        ("prepare-record", Code.RECORD_AUTH, "a held record does not open: ends within prepare",
         lambda c: c.confirmed() + flipped(c.sealer().seal(DATA, frame(0x04)), 9)),
        ("prepare-frame", Code.UNEXPECTED_FRAME, "a held frame is not allowed: ends within prepare",
         lambda c: c.confirmed(abort(0))),
        ("prepare-zero", Code.BAD_KEY, "ephemeral of small order, seen when the peer's key is known",
         lambda c: c.kex(ephemeral=bytes(32))),
    ):  # fmt: skip
        case = Case(name, about, calls=calls[:1], authenticated=False)
        case.reads(read(case))
        case.call("prepare")
        yield case_of(case, code)
    for name, code, data in (
        ("abort-first", Code.REJECTED, lambda c: [abort(Code.REJECTED)]),
        ("abort-clear", Code.BAD_KEY, lambda c: [c.kex(), abort(Code.BAD_KEY)]),
        ("abort-unknown", Code.MISBEHAVED, lambda c: [abort(999)]),
        ("close-before-established", Code.REJECTED, lambda c: [c.confirmed(), c.sealer().seal(DATA, close(1, {}))]),
    ):
        yield Refused(name, code, "the peer ends the session; no ABORT or CLOSE answers", data)


class case_of:
    def __init__(self, made, code):
        self.made, self.code = made, code

    def case(self):
        return self.made.case(self.code)


def refused():
    parts = (frames(), gate(), keys(), confirms(), later())
    return [case.case() for part in parts for case in part]


def accepted():
    """At the limits; `then_verified` of the last step."""
    out = []

    def case(name, about, act, **more):
        made = Case(name, about, **more)
        act(made)
        assert "then_ended" not in made.steps[-1], name
        session = made.under_test.session
        state = {"verified": session.control.verified, "state": session.state}
        out.append(made.case() | state)

    calls = ("connected", "prepare", "finalize")
    many = tuple(range(0x7000, 0x7000 + 31)) + (1,)
    case("kex-32-suites", "k = 32", lambda c: c.reads(c.confirmed()), i={"suites": many})
    longest = ((0xFFFF, pattern(4096 - 38 - 4)),)
    case("kex-4096", "KEX with n = 4,096", lambda c: c.reads(c.confirmed()), i={"extensions": longest})
    case("byte-by-byte", "every byte alone", bytewise, calls=calls)
    largest = frame(0x10, pattern(65_536))
    case("dropped-65536", "65,536 bytes of APP behind one's own finalize", lambda c: c.reads(c.kex() + largest), calls=calls)
    case("before-connected", "KEX, APP, CONFIRM, FINISHED before connected: CONFIRM waits for it", before_connected, calls=())
    case("finalize-first", "finalize before KEX arrives", lambda c: c.reads(c.confirmed(frame(0x04))), calls=calls)
    case("held", "CONFIRM and records wait for prepare", held, authenticated=False)
    case("held-i", "the same on I", held, authenticated=False, side="i")
    return out


def bytewise(case):
    for byte in case.confirmed(frame(0x10, b"late") + frame(0x04)):
        case.reads(bytes([byte]))


def before_connected(case):
    kex, app, sealer = case.kex(), frame(0x10, b"early"), case.sealer()
    case.reads(kex + app + case.confirm(kex + app))
    case.reads(sealer.seal(DATA, frame(0x10, b"sealed") + frame(0x04)))
    case.call("connected")
    case.call("prepare")
    case.call("finalize")


def held(case):
    case.call("connected")
    case.reads(case.confirmed(frame(0x10, b"sealed"), frame(0x04)))
    case.call("prepare")
    case.call("finalize")
