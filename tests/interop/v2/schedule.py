"""From the transcript to the keys of an epoch (§7)."""

from dataclasses import dataclass

from .crypto import derive, extract, mac, sha256, x25519
from .wire import lp, u8, u16

I_TO_R, R_TO_I = 0, 1
ROLES = {I_TO_R: "I", R_TO_I: "R"}


@dataclass(frozen=True)
class Transcript:
    """The fields of th. `kex_i`, `kex_r`, `kem_ct` begin with the type byte; `kem_ct` may be empty."""

    suite: int
    kex_i: bytes
    kex_r: bytes
    kem_ct: bytes
    id_i: bytes
    id_r: bytes
    binding_type: int
    binding_value: bytes
    app: bytes

    def input(self):
        return (
            lp(b"GB2_4DH_25519_SHA256")
            + u16(self.suite)
            + lp(self.kex_i)
            + lp(self.kex_r)
            + lp(self.kem_ct)
            + lp(self.id_i)
            + lp(self.id_r)
            + u8(self.binding_type)
            + lp(self.binding_value)
            + lp(self.app)
        )

    def hash(self):
        return sha256(self.input())


@dataclass(frozen=True)
class Shares:
    """The four results of X (§7.2)."""

    ee: bytes
    es: bytes
    se: bytes
    ss: bytes

    @classmethod
    def of_i(cls, e, s, peer_e, peer_u):
        return cls(x25519(e, peer_e), x25519(e, peer_u), x25519(s, peer_e), x25519(s, peer_u))

    @classmethod
    def of_r(cls, e, s, peer_e, peer_u):
        return cls(x25519(e, peer_e), x25519(s, peer_e), x25519(e, peer_u), x25519(s, peer_u))

    def joined(self):
        return self.ee + self.es + self.se + self.ss


class Schedule:
    """What is derived from `ms`."""

    def __init__(self, th, kk, shares):
        self.th = th
        self.ms = extract(th, kk + shares.joined())

    def _of(self, label, ctx, n):
        return derive(self.ms, label, ctx, n)

    def sid(self):
        return self._of("session id", self.th, 16)

    def exporter(self):
        return self._of("exporter", self.th, 32)

    def confirm_key(self, direction):
        return self._of(f"confirm {ROLES[direction]}", self.th, 32)

    def confirm(self, direction, hs):
        return mac(self.confirm_key(direction), self.th + hs)

    def control(self, direction):
        return self._of("control", u8(direction) + self.th, 32)

    def root(self, direction, name):
        return self._of("stream", u8(direction) + lp(name) + self.th, 32)


class Roots:
    """The chain R_0, R_1, … of one direction and stream."""

    def __init__(self, root):
        self.root = root

    def step(self):
        """The secret of the next instance; its root is gone afterwards."""
        secret = derive(self.root, "inst", b"", 32)
        self.root = derive(self.root, "next", b"", 32)
        return secret


class Epoch:
    """Key and iv of the current epoch; only the next epoch's secret is kept."""

    def __init__(self, secret):
        self.number = -1
        self.next_secret = secret
        self.step()

    def step(self):
        secret = self.next_secret
        self.key = derive(secret, "key", b"", 32)
        self.iv = derive(secret, "iv", b"", 12)
        self.next_secret = derive(secret, "rekey", b"", 32)
        self.number += 1
