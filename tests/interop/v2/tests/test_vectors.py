"""The vectors as they lie in the repository, read back and replayed, whole and in pieces."""

import json
import random
import unittest

from .. import codes
from ..control import Config
from ..crypto import Identity, derive, open_sealed
from ..kex import make_ephemerals
from ..schedule import Epoch
from ..vectors import files
from ..vectors.replay import UnderTest
from ..vectors.sides import NAMES
from .test_examples import WIRE

FOLDER = WIRE.parent / "tests" / "vectors" / "v2"
HANDSHAKE_CALLS = ("connected", "send_handshake", "prepare", "finalize")


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def unhex(text):
    return bytes.fromhex(text)


def config(side):
    made = Config(
        Identity(unhex(side["seed"])),
        unhex(side["entropy"]),
        side["wall"],
        side["counter"],
        tuple(side["suites"]),
        side["binding_mask"],
        unhex(side["binding_value"]),
        tuple((e["type"], unhex(e["value"])) for e in side["extensions"]),
        unhex(side["app_context"]),
        NAMES,
    )
    e = make_ephemerals(
        made.identity.seed, made.entropy, made.wall, made.counter, made.binding_value
    )
    assert e.public == unhex(side["ephemeral"])
    return made


def pieces(data, chance):
    """The same bytes, cut at random places; `chance` None: whole."""
    while chance is not None and len(data) > 1:
        n = chance.randint(1, min(len(data), 700))
        yield data[:n]
        data = data[n:]
    yield data


class Machine:
    """Collects what `seen` gives over several pieces."""

    def __init__(self, test, side):
        self.test, self.side = test, side

    def check(self, step, chance, whole):
        seen = json.loads(json.dumps(self.test.seen(), default=lambda b: b.hex()))
        for key, value in seen.items():
            self.side.assertEqual(step.get(key), value, (whole, step))
        wanted = {k for k in step if k.startswith("then_") and k in self.KEYS}
        self.side.assertEqual(wanted, set(seen), whole)

    KEYS = {"then_handshake_messages", "then_messages", "then_reports", "then_ended",
            "then_reset", "then_fin"}  # fmt: skip


class Vectors(unittest.TestCase):
    maxDiff = 2000

    def test_files_are_current(self):
        for name, text in files().items():
            self.assertEqual((FOLDER / name).read_text(), text, name)

    def established(self, case, side):
        """A side behind the steps of a handshake in handshakes.json."""
        other = "r" if side == "i" else "i"
        peer_id = unhex(case[other]["id"]) if case["authenticated"] else None
        test = UnderTest(config(case[side]), side == "i", peer_id)
        for step in case["steps"]:
            if step["side"] == side and step.get("call") in HANDSHAKE_CALLS:
                arguments = {k: unhex(step[k]) for k in ("message", "key") if k in step}
                test.call(step["call"], arguments)
            elif step["side"] == other and "writes" in step:
                test.reads(unhex(step["writes"]))
                if "then_messages" in step:
                    got = [m.hex() for m in test.seen().get("then_handshake_messages", [])]
                    self.assertEqual(got, step["then_messages"], case["name"])
                self.assertEqual(test.session.control.verified, step["then_verified"])
        test.seen()
        return test

    def test_handshakes(self):
        for case in load("handshakes"):
            for side in "ir":
                test = self.established(case, side)
                control = test.session.control
                self.assertEqual(control.sid.hex(), case["sid"])
                self.assertEqual(control.exporter.hex(), case["exporter"])
            for name in ("i_to_r", "r_to_i"):
                self.records(case[name]["records"])
                for epoch, after in zip(case[name]["control_epochs"], case[name]["control_epochs"][1:]):
                    self.assertEqual(derive(unhex(epoch["secret"]), "rekey", b"", 32).hex(), after["secret"])

    def records(self, records, aead=None):
        """Each record opens by the values that are written beside it."""
        for record in records:
            wire, key, nonce = (unhex(record[k]) for k in ("record", "key", "nonce"))
            plains = []
            for name in [aead] if aead else ["ChaCha20-Poly1305", "AES-256-GCM"]:
                try:
                    plains.append(open_sealed(name, key, nonce, wire[:2], wire[2:]).hex())
                except codes.SessionError:
                    pass
            self.assertEqual(plains, [record["plaintext"]])

    def test_streams(self):
        bases = {case["name"]: case for case in load("handshakes")}
        for file in ("streams", "boundaries", "instances", "stream_errors"):
            for case in load(file):
                self.records(case["records"], case["aead"])
                for chance in (None, random.Random(case["name"])):
                    side = "r" if case["direction"] == 0 else "i"
                    test = self.established(bases[case["handshake"]], side)
                    for incoming in test.session.incoming.values():
                        incoming.limit = case.get("message_limit", incoming.limit)
                    self.stream_steps(case, test, chance)

    def stream_steps(self, case, test, chance):
        machine = Machine(test, self)
        gathered = {}
        for step in case["steps"]:
            if "agreed" in step:
                got = test.offer(step["substream"], step["agreed"].encode())
                self.assertEqual(got, step["then_accepted"], case["name"])
            elif "bytes" in step:
                for piece in pieces(unhex(step["bytes"]), chance):
                    test.substream(step["substream"], piece)
            elif "end" in step:
                test.ends(step["substream"], step["end"])
            elif "wait" in step:
                test.wait(step["wait"])
            else:
                for piece in pieces(unhex(step["control_record"]), chance):
                    test.reads(piece)
            machine.check(step, chance, case["name"])
            gathered |= step
        self.assertEqual(gathered.get("then_ended"), case.get("code"))
        counts = test.session.counts()[case["stream"].encode()]
        self.assertEqual((counts.next, counts.lost), (case["next"], case["lost"]), case["name"])

    def test_handshake_steps(self):
        for file in ("handshake_accepted", "handshake_errors"):
            for case in load(file):
                for chance in (None, random.Random(case["name"])):
                    self.handshake_steps(case, chance)

    def handshake_steps(self, case, chance):
        side = case["side"]
        peer_id = unhex(case["r" if side == "i" else "i"]["id"]) if case["authenticated"] else None
        test = UnderTest(config(case[side]), side == "i", peer_id)
        self.assertEqual(test.wrote.hex(), case["first_writes"])
        machine, at = Machine(test, self), len(test.wrote)
        for step in case["steps"]:
            if "reads" in step:
                for piece in pieces(unhex(step["reads"]), chance):
                    test.reads(piece)
            elif "control_ends" in step:
                test.control_ends()
            else:
                test.call(step["call"], {k: unhex(step[k]) for k in ("message", "key") if k in step})
            machine.check(step, chance, case["name"])
            self.assertEqual(test.wrote[at:].hex(), step.get("then_writes", ""), case["name"])
            at = len(test.wrote)
        if "code" in case:
            self.assertEqual(test.session.end_code, case["code"])
        else:
            self.assertEqual(test.session.state, case["state"])
            self.assertEqual(test.session.control.verified, case["verified"])

    def test_epochs(self):
        whole = load("epochs")["whole_epoch"]
        epoch = Epoch(unhex(whole["secret"]))
        self.assertEqual(epoch.key.hex(), whole["key"])
        epoch.step()
        self.assertEqual((epoch.key.hex(), epoch.iv.hex()), (whole["next_key"], whole["next_iv"]))


if __name__ == "__main__":
    unittest.main()
