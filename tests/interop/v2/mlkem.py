"""ML-KEM-768 (FIPS 203). Key generation and decapsulation are the library's.

Encapsulation from given coins is written out here because the library draws its own; §6.4 needs
them fixed. It is not in constant time.
"""

import hashlib

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

Q, K = 3329, 3
KEY_BYTES, CIPHERTEXT_BYTES = 1184, 1088


def keygen(seed):
    """`(private key, encapsulation key)` from d ‖ z."""
    key = MLKEM768PrivateKey.from_seed_bytes(seed)
    return key, key.public_key().public_bytes_raw()


def is_key(ek):
    """Length and modulus (§7.2 of FIPS 203)."""
    if len(ek) != KEY_BYTES:
        return False
    return all(c < Q for i in range(K) for c in unpack(ek[384 * i : 384 * (i + 1)], 12))


def encapsulate(ek, m):
    """`(shared secret, ciphertext)` of the encapsulation key with the coins `m`."""
    g = hashlib.sha3_512(m + hashlib.sha3_256(ek).digest()).digest()
    return g[:32], encrypt(ek, m, g[32:])


def encrypt(ek, m, coins):
    """K-PKE.Encrypt, algorithm 14."""
    t = [unpack(ek[384 * i : 384 * (i + 1)], 12) for i in range(K)]
    rho = ek[384 * K :]
    y = [ntt(noise(coins, n)) for n in range(K)]
    e1 = [noise(coins, K + n) for n in range(K)]
    e2 = noise(coins, 2 * K)
    out = b""
    for i in range(K):
        row = [sample(rho, i, j) for j in range(K)]  # A transposed: A[j][i] has the seed i, j
        u = plus(inverse_ntt(dot(row, y)), e1[i])
        out += pack([compress(c, 10) for c in u], 10)
    mu = [bit * ((Q + 1) // 2) for bit in unpack(m, 1)]
    v = plus(plus(inverse_ntt(dot(t, y)), e2), mu)
    return out + pack([compress(c, 4) for c in v], 4)


def compress(c, bits):
    return ((c << bits) + Q // 2) // Q % (1 << bits)


def unpack(data, bits):
    n = int.from_bytes(data, "little")
    return [n >> bits * i & (1 << bits) - 1 for i in range(256)]


def pack(values, bits):
    n = sum(v << bits * i for i, v in enumerate(values))
    return n.to_bytes(32 * bits, "little")


def sample(rho, i, j):
    """SampleNTT, algorithm 7."""
    stream = hashlib.shake_128(rho + bytes([i, j])).digest(3 * 672)
    out = []
    for at in range(0, len(stream), 3):
        a, b, c = stream[at : at + 3]
        for d in (a + 256 * (b % 16), b // 16 + 16 * c):
            if d < Q and len(out) < 256:
                out.append(d)
    assert len(out) == 256
    return out


def noise(coins, n):
    """SamplePolyCBD with eta 2, algorithm 8."""
    bits = unpack(hashlib.shake_256(coins + bytes([n])).digest(128), 4)
    return [((b & 1) + (b >> 1 & 1) - (b >> 2 & 1) - (b >> 3)) % Q for b in bits]


def reversed_bits(n):
    return int(f"{n:07b}"[::-1], 2)


ZETAS = [pow(17, reversed_bits(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * reversed_bits(i) + 1, Q) for i in range(128)]


def ntt(f):
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, 256, 2 * length):
            for j in range(start, start + length):
                t = ZETAS[i] * f[j + length] % Q
                f[j + length], f[j] = (f[j] - t) % Q, (f[j] + t) % Q
            i += 1
        length //= 2
    return f


def inverse_ntt(f):
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, 256, 2 * length):
            for j in range(start, start + length):
                t = f[j]
                f[j] = (t + f[j + length]) % Q
                f[j + length] = ZETAS[i] * (f[j + length] - t) % Q
            i -= 1
        length *= 2
    return [c * 3303 % Q for c in f]


def dot(a, b):
    out = [0] * 256
    for f, g in zip(a, b):
        for i in range(128):
            a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
            out[2 * i] = (out[2 * i] + a0 * b0 + a1 * b1 * GAMMAS[i]) % Q
            out[2 * i + 1] = (out[2 * i + 1] + a0 * b1 + a1 * b0) % Q
    return out


def plus(a, b):
    return [(x + y) % Q for x, y in zip(a, b)]
