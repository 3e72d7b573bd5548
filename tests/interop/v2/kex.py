"""KEX frames, and what two of them agree on (§6.3, §6.4)."""

from dataclasses import dataclass

from . import mlkem
from .codes import Code, SessionError
from .crypto import P, derive, extract, mac, x25519_public
from .frames import KEX
from .wire import Cut, Fields, lp, u8, u16, u64

KEM_KEY = 0x0001
SUITES = {  # in the order of their rank
    0x0102: "AES-256-GCM",
    0x0101: "ChaCha20-Poly1305",
    0x0002: "AES-256-GCM",
    0x0001: "ChaCha20-Poly1305",
}
HYBRID = {0x0101, 0x0102}


@dataclass(frozen=True)
class Kex:
    """`wire` is the frame from the type byte on, without its varint."""

    mask: int
    suites: tuple
    ephemeral: bytes
    extensions: tuple
    wire: bytes

    @property
    def kem_key(self):
        return dict(self.extensions).get(KEM_KEY)

    @property
    def is_hybrid(self):
        return not HYBRID.isdisjoint(self.suites)


def make_kex(mask, suites, ephemeral, extensions):
    body = u8(mask) + u8(len(suites)) + b"".join(u16(s) for s in suites) + ephemeral
    for kind, value in extensions:
        body += u16(kind) + u16(len(value)) + value
    wire = bytes([KEX, 2]) + body
    return Kex(mask, tuple(suites), ephemeral, tuple(extensions), wire)


def read_kex(body, from_r):
    """Layout, version and extensions of the body behind the type byte."""
    fields, extensions = Fields(body), []
    try:
        if fields.number(1) != 2:
            raise SessionError(Code.BAD_FRAME, "version of KEX")
        mask, k = fields.number(1), fields.number(1)
        if not 1 <= k <= 32:
            raise SessionError(Code.BAD_FRAME, "number of suites")
        suites = tuple(fields.number(2) for _ in range(k))
        ephemeral = fields.take(32)
        while fields.left():
            kind, length = fields.number(2), fields.number(2)
            if extensions and kind <= extensions[-1][0]:
                raise SessionError(Code.BAD_FRAME, "order of extensions")
            extensions.append((kind, fields.take(length)))
    except Cut:
        raise SessionError(Code.BAD_FRAME, "KEX is cut") from None
    kex = Kex(mask, suites, ephemeral, tuple(extensions), bytes([KEX]) + body)
    if (kex.kem_key is not None) != (from_r and kex.is_hybrid):
        raise SessionError(Code.BAD_FRAME, "KEM key missing or not allowed")
    return kex


def check_ephemeral(ephemeral, own_ephemeral, own_u):
    if int.from_bytes(ephemeral, "little") >= P:
        raise SessionError(Code.BAD_KEY, "ephemeral is not canonical")
    if ephemeral in (own_ephemeral, own_u):
        raise SessionError(Code.BAD_KEY, "ephemeral is one's own key")


def choose(own, peer):
    """`(suite, binding type)` of the session."""
    common = [s for s in SUITES if s in own.suites and s in peer.suites]
    if not common:
        raise SessionError(Code.NO_COMMON_SUITE)
    bits = own.mask & peer.mask & 3
    if not bits:
        raise SessionError(Code.NO_COMMON_BINDING)
    return common[0], bits.bit_length() - 1


def accept_kex(body, own, own_u, own_is_i):
    """Checks the peer's KEX in the order of §6.3; `(kex, suite, binding type)`."""
    peer = read_kex(body, from_r=own_is_i)
    check_ephemeral(peer.ephemeral, own.ephemeral, own_u)
    suite, binding = choose(own, peer)
    if own_is_i and suite in HYBRID and not mlkem.is_key(peer.kem_key):
        raise SessionError(Code.BAD_KEY, "KEM key")
    return peer, suite, binding


@dataclass(frozen=True)
class Ephemerals:
    """What §6.4 derives for one session."""

    hedge_key: bytes
    prk: bytes
    private: bytes
    public: bytes
    kem_seed: bytes
    kem_coins: bytes


def make_ephemerals(seed, entropy, wall, counter, binding_value):
    hedge_key = mac(seed, b"glueberry/2 hedge")
    prk = extract(hedge_key, entropy + u64(wall) + u64(counter) + lp(binding_value))
    private = derive(prk, "x25519", b"", 32)
    return Ephemerals(
        hedge_key,
        prk,
        private,
        x25519_public(private),
        derive(prk, "ml-kem-768 keygen", b"", 64),
        derive(prk, "ml-kem-768 encaps", b"", 32),
    )
