"""The examples of WIRE.md §15, recomputed."""

import re
import unittest
from pathlib import Path

from .. import frames, wire
from ..crypto import Identity, derive, label_info, sha256, x25519_public
from ..kex import SUITES, Kex, accept_kex, make_ephemerals, make_kex
from ..mlkem import keygen
from ..record import CLOSED, DATA, OPEN, PADDED, Sealer, pad
from ..schedule import I_TO_R, R_TO_I, Epoch, Roots, Schedule, Shares, Transcript

WIRE = Path(__file__).resolve().parents[4] / "glueberry-proto" / "WIRE.md"
BLOCK = re.compile(r"```hex name=(\S+)\n(.*?)```", re.S)


class Examples(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.blocks = {n: "".join(h.split()) for n, h in BLOCK.findall(WIRE.read_text())}
        self.a, self.b = Identity(b"\x11" * 32), Identity(b"\x22" * 32)

    def same(self, **values):
        for name, value in values.items():
            name = name.replace("_", "-")
            self.assertEqual(self.blocks[name], value.hex(), name)

    def test_names_and_identities(self):
        self.same(preamble_proposal=wire.propose(wire.HANDSHAKE_ID))
        for name, node in (("i", self.a), ("r", self.b)):
            self.assertEqual(self.blocks[f"id-{name}-ed25519"], node.id.hex())
            self.assertEqual(self.blocks[f"id-{name}-x25519-private"], node.s.hex())
            self.assertEqual(self.blocks[f"id-{name}-x25519"], node.u.hex())

    def test_hedge(self):
        e = make_ephemerals(b"\x11" * 32, b"\x55" * 32, 1_700_000_000_000, 7, b"\x77" * 32)
        self.same(
            v2_hedge_key=e.hedge_key,
            v2_hedge_prk=e.prk,
            v2_hedge_x25519=e.private,
            v2_hedge_kem_keygen=e.kem_seed,
            v2_hedge_kem_encaps=e.kem_coins,
            v2_hedge_kem_ek_sha256=sha256(keygen(e.kem_seed)[1]),
            v2_label_info=label_info("iv", b"", 12),
        )

    def kex(self) -> tuple[Kex, Kex]:
        e_i, e_r = x25519_public(b"\x33" * 32), x25519_public(b"\x44" * 32)
        self.same(v2_eph_i=e_i, v2_eph_r=e_r)
        return make_kex(3, (1, 2), e_i, ((0xFADE, b"abc"),)), make_kex(3, (1,), e_r, ())

    def schedule(self):
        i, r = self.kex()
        value = bytes.fromhex(self.blocks["v2-binding"])
        transcript = Transcript(1, i.wire, r.wire, b"", self.a.id, self.b.id, 1, value, b"")
        self.same(v2_th_input=transcript.input(), v2_th=transcript.hash())
        shares = Shares.of_i(b"\x33" * 32, self.a.s, r.ephemeral, self.b.u)
        self.assertEqual(shares, Shares.of_r(b"\x44" * 32, self.b.s, i.ephemeral, self.a.u))
        self.same(v2_ee=shares.ee, v2_es=shares.es, v2_se=shares.se, v2_ss=shares.ss)
        return Schedule(transcript.hash(), b"", shares)

    def test_handshake(self):
        i, r = self.kex()
        self.same(v2_kex_i=i.wire, v2_kex_r=r.wire)
        self.assertEqual(accept_kex(r.wire[1:], i, self.a.u, True), (r, 1, 1))
        clear = {
            side: frames.frame(1, kex.wire[1:]) + frames.frame(frames.APP, b"\x01")
            for side, kex in (("i", i), ("r", r))
        }
        self.same(v2_clear_i=clear["i"], v2_clear_r=clear["r"])
        s = self.schedule()
        self.same(v2_ms=s.ms, v2_sid=s.sid(), v2_exporter=s.exporter())
        for side, direction in (("i", I_TO_R), ("r", R_TO_I)):
            hs, secret = sha256(clear[side]), s.control(direction)
            values = {
                "confirm-key": s.confirm_key(direction),
                "hs": hs,
                "confirm": frames.frame(frames.CONFIRM, s.confirm(direction, hs)),
                "control-secret": secret,
                "control-key": Epoch(secret).key,
                "control-iv": Epoch(secret).iv,
            }
            for name, value in values.items():
                self.assertEqual(self.blocks[f"v2-{name}-{side}"], value.hex(), name)

    def test_control_records(self):
        s = self.schedule()
        plain = [
            frames.frame(frames.APP, b"\x02" + self.a.id),
            frames.frame(frames.APP, b"\x03") + frames.frame(frames.FINISHED),
        ]
        self.same(v2_control_plain_i_0=plain[0], v2_control_plain_i_1=plain[1])
        sealer = Sealer(SUITES[1], s.control(I_TO_R))
        self.same(v2_control_record_i_0=sealer.seal(DATA, plain[0]))
        self.same(v2_control_record_i_1=sealer.seal(DATA, plain[1]))
        of_r = frames.frame(frames.APP, b"\x02" + self.b.id)
        self.same(v2_control_record_r_0=Sealer(SUITES[1], s.control(R_TO_I)).seal(DATA, of_r))

    def test_stream(self):
        s = self.schedule()
        root = s.root(I_TO_R, b"chat")
        roots = Roots(root)
        first = roots.step()
        self.same(v2_stream_root=root, v2_inst_0=first, v2_stream_root_1=roots.root)
        self.same(v2_inst_1=roots.step(), v2_stream_root_r=s.root(R_TO_I, b"chat"))
        sealer = Sealer(SUITES[1], first)
        self.same(v2_key_0=sealer.epoch.key, v2_iv_0=sealer.epoch.iv)
        opened, data = bytes(13), b"\x05hello\x00\x05wo"
        self.same(v2_preamble=s.sid()[:8] + bytes(4), v2_open_slice=opened, v2_data_slice=data)
        self.same(
            v2_open_record=sealer.seal(OPEN, opened),
            v2_data_record=sealer.seal(DATA, data),
            v2_data_record_flagged=sealer.seal(DATA, b"rld", last=True),
        )
        self.same(v2_epoch_1=derive(first, "rekey", b"", 32))
        self.same(v2_key_1=sealer.epoch.key, v2_iv_1=sealer.epoch.iv)
        padded = pad(b"\x01x", 12)
        self.same(v2_padding_slice=padded, v2_padding_record=sealer.seal(PADDED, padded))
        self.same(v2_close_record=sealer.seal(CLOSED, bytes(2)))
        aes = Sealer(SUITES[2], first)
        aes.seal(OPEN, opened)
        self.same(v2_aes_data_record=aes.seal(DATA, data))

    def test_control_frames(self):
        counts = {b"chat": frames.Count(3, 2, 0), b"sync": frames.Count(0, 300, 1)}
        self.same(v2_close_frame=frames.close(0, counts))
        self.same(v2_abandon_frame=frames.abandon(7, b"chat"))
        body = frames.close(0, counts)[2:]
        self.assertEqual(frames.read_close(body), (0, counts))


if __name__ == "__main__":
    unittest.main()
