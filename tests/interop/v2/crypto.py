"""HKDF, X25519, Ed25519 identities and the two AEADs (§1, §2, §6.3)."""

import functools
import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from .codes import Code, SessionError
from .wire import lp, u16

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
NEUTRAL = (0, 1)


def sha256(data):
    return hashlib.sha256(data).digest()


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def same(a, b):
    """Comparison in constant time."""
    return hmac.compare_digest(a, b)


def extract(salt, ikm):
    return mac(salt, ikm)


def expand(prk, info, n):
    out, block, count = b"", b"", 0
    while len(out) < n:
        count += 1
        block = mac(prk, block + info + bytes([count]))
        out += block
    return out[:n]


def label_info(label, ctx, n):
    return u16(n) + lp(b"glueberry/2") + lp(label.encode()) + lp(ctx)


def derive(key, label, ctx, n):
    """L of §1."""
    return expand(key, label_info(label, ctx, n), n)


def x25519(private, public):
    """X of §1. An all-zero result is `BAD_KEY` (§6.4)."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:
        raise SessionError(Code.BAD_KEY, "the result of X25519 is zero") from None


def x25519_public(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


class Identity:
    """A node's key: `id`, and its X25519 pair `s`, `u`."""

    def __init__(self, seed):
        self.seed = seed
        self.id = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        s = bytearray(hashlib.sha512(seed).digest()[:32])
        s[0] &= 248
        s[31] = s[31] & 127 | 64
        self.s = bytes(s)
        self.u = x25519_public(self.s)


class BadIdentity(Exception):
    """The public key is refused by the rule `number` of §2."""

    def __init__(self, number):
        super().__init__(f"rule {number}")
        self.number = number


def check_identity(public, own_u=None):
    """The `u` of a peer's public key, or BadIdentity with the first rule of §2 that it breaks."""
    u = _identity_u(bytes(public))
    if u == own_u:
        raise BadIdentity(6)
    return u


@functools.cache
def _identity_u(public):
    """Rules 1 to 5."""
    if len(public) != 32:
        raise BadIdentity(1)
    point = decode_point(public)
    if point is None:
        raise BadIdentity(2)
    if encode_point(point) != public:
        raise BadIdentity(3)
    if multiply(point, 8) == NEUTRAL:
        raise BadIdentity(4)
    if multiply(point, ORDER) != NEUTRAL:
        raise BadIdentity(5)
    return to_u(point)


def to_u(point):
    y = point[1]
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def decode_point(data):
    """A decoder that takes y modulo p and a sign bit with x = 0: rule 3 finds both."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, (y & 2**255 - 1) % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        return None
    if x & 1 != sign:
        x = -x % P
    return x, y


def encode_point(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def add(a, b):
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P
    return x, y


def multiply(point, n):
    out = NEUTRAL
    while n:
        if n & 1:
            out = add(out, point)
        point = add(point, point)
        n >>= 1
    return out


AEADS = {"ChaCha20-Poly1305": ChaCha20Poly1305, "AES-256-GCM": AESGCM}


def seal(aead, key, nonce, aad, plaintext):
    return AEADS[aead](key).encrypt(nonce, plaintext, aad)


def open_sealed(aead, key, nonce, aad, ciphertext):
    try:
        return AEADS[aead](key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise SessionError(Code.RECORD_AUTH, "record does not open") from None
