"""Vectors of single parts: identities, name preambles, epochs, ML-KEM, names and suites."""

import hashlib

from .. import record
from ..codes import Code, SessionError
from ..crypto import ORDER, BadIdentity, P, add, check_identity, decode_point, encode_point, multiply, seal
from ..kex import choose, make_kex
from ..mlkem import encapsulate, keygen
from ..record import DATA, Opener, Sealer
from ..wire import HANDSHAKE_ID, is_name, propose, read_answer, read_proposal, stream_id, u16
from .sides import A, B, LONG_NAME, pattern


def little(n):
    return n.to_bytes(32, "little")


def identities():
    """Keys against the list of §2, with A as one's own."""
    order_8 = decode_point(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"))
    b = decode_point(B.id)
    negated = bytearray(A.id)
    negated[31] ^= 128
    keys = [
        ("another identity", B.id),
        ("31 bytes", B.id[:31]),
        ("33 bytes", B.id + b"\0"),
        ("not on the curve", little(2)),
        ("y = p + 3, on the curve with y = 3", little(P + 3)),
        ("y = p, the point of y = 0", little(P)),
        ("y = p + 1, the neutral element", little(P + 1)),
        ("x = 0 with the sign bit, y = 1", little(1 | 1 << 255)),
        ("x = 0 with the sign bit, y = -1", little(P - 1 | 1 << 255)),
        ("neutral element", little(1)),
        ("order 2", little(P - 1)),
        ("order 4", little(0)),
        ("order 8", encode_point(order_8)),
        ("order 8, negated", encode_point(multiply(order_8, 7))),
        ("another identity plus a point of order 8", encode_point(add(b, order_8))),
        ("another identity plus the point of order 2", encode_point(add(b, (0, P - 1)))),
        ("one's own", A.id),
        ("one's own, negated", bytes(negated)),
    ]
    assert multiply(order_8, 4) == (0, P - 1) and multiply(b, ORDER) == (0, 1)
    out = []
    for about, key in keys:
        case = {"about": about, "own": A.id, "key": key}
        try:
            case["x25519"] = check_identity(key, A.u)
        except BadIdentity as bad:
            case["rule"] = bad.number
        out.append(case)
    return out


def names():
    good = [HANDSHAKE_ID, stream_id(b"a"), stream_id(LONG_NAME), b"x" * 128, "ü".encode(), b"x"]
    proposals = [
        *((propose(x), "") for x in good),
        (propose(HANDSHAKE_ID) + b"\x01", "bytes behind it belong to the substream"),
        (propose(HANDSHAKE_ID)[:-1], "one byte is missing"),
        (b"", "nothing yet"),
        (b"\0", "n = 0"),
        (b"\x81", "n = 129, refused behind one byte"),
        (b"\xff", "n = 255"),
        (b"\x02\xc3\x28", "not UTF-8"),
        (b"\x01\x80", "not UTF-8"),
    ]
    mine = propose(HANDSHAKE_ID)
    answers = [
        (mine, "accepted"),
        (mine + b"\x01", "accepted; bytes behind it belong to the substream"),
        (mine[:9], "not whole"),
        (b"\0", "refused"),
        (b"\0\0", "a byte behind a refusal"),
        (propose(stream_id(b"a")), "another id, refused behind its first byte"),
        (mine[:-1] + b"1", "the last byte differs"),
        (b"\x80", "another length"),
    ]
    return {
        "proposals": [outcome(data, about, read_proposal) for data, about in proposals],
        "answers": [outcome(d, about, lambda x: read_answer(x, mine)) for d, about in answers],
        "stream_names": [
            {"bytes": x, "valid": is_name(x)}
            for x in (b"a", b"", LONG_NAME, LONG_NAME + b"x", b"handshake", b"Handshake", b"a.b",
                      b"a/b", "ü".encode(), b"-", b"_", b"a\0", b"a\n", b" ")
        ],
    }  # fmt: skip


def outcome(data, about, read):
    case = {"bytes": data, "about": about}
    try:
        got = read(data)
    except SessionError as error:
        return case | {"code": int(error.code), "code_name": error.code.name}
    if got is None:
        return case | {"incomplete": True}
    what, length = got
    key = "accepted" if isinstance(what, bool) else "id"
    return case | {key: what, "length": length}


def epochs():
    """The arithmetic of §8.2, and an epoch of 2^16 records."""
    steps = []
    most = record.BLOCKS
    for counter, blocks, length in (
        (0, 0, 17), (0, 0, 32), (0, 0, 33), (0, 0, 48), (0, 0, 16_640),
        (65_534, 200_000, 17), (65_535, 200_000, 17),
        (64_000, most - 1040, 16_640), (64_000, most - 1039, 16_640), (64_000, most - 2, 17),
        (64_000, most - 1, 17), (64_000, most - 1042, 17), (64_000, most - 1041, 17),
    ):  # fmt: skip
        after = blocks + record.blocks_of(length)
        for last in (False, True):
            steps.append({
                "counter": counter, "blocks": blocks, "len": length, "last": last,
                "then_blocks": after,
                "receiver": "EPOCH_LIMIT" if record.is_too_long(counter + 1, after, last)
                else "rekey" if last else "next",
                "sender_must_flag": record.must_end(counter + 1, after, 0),
            })  # fmt: skip
    secret, sha = pattern(32), hashlib.sha256()
    sealer = Sealer("ChaCha20-Poly1305", secret)
    opener = Opener("ChaCha20-Poly1305", secret)
    for _ in range(65_535):
        one = sealer.seal(DATA, b"")
        sha.update(one)
        opener.buffer += one
        opener.next()
    key, nonce = sealer.epoch.key, sealer.nonce()
    unflagged = refused_record(key, nonce)
    opener.buffer += unflagged
    try:
        opener.next()
    except SessionError as error:
        assert error.code == Code.EPOCH_LIMIT
    last = sealer.seal(DATA, b"")
    assert sealer.epoch.number == 1
    return {
        "steps": steps,
        "whole_epoch": {
            "about": "65,535 data records with an empty slice, then the last of the epoch",
            "aead": "ChaCha20-Poly1305",
            "secret": secret,
            "key": key,
            "sha256_of_65535_records": sha.digest(),
            "record_65535": last,
            "record_65535_without_flag": unflagged,
            "without_flag": "EPOCH_LIMIT",
            "next_key": sealer.epoch.key,
            "next_iv": sealer.epoch.iv,
            "next_record": sealer.seal(DATA, b""),
        },
    }


def refused_record(key, nonce):
    return u16(17) + seal("ChaCha20-Poly1305", key, nonce, u16(17), b"\0")


def kems():
    out = []
    for n in range(3):
        seed, coins = pattern(64, n), pattern(32, n + 100)
        private, key = keygen(seed)
        secret, ciphertext = encapsulate(key, coins)
        wrong = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
        out.append({
            "seed": seed, "encapsulation_key": key, "coins": coins, "ciphertext": ciphertext,
            "shared_secret": secret, "first_byte_changed_gives": private.decapsulate(wrong),
        })  # fmt: skip
    return out


def choices():
    """Suite and binding of two KEX."""
    out = []
    for suites, masks in (
        (((1,), (1,)), (1, 1)),
        (((1, 2), (2, 1)), (3, 3)),
        (((2, 1), (1,)), (3, 1)),
        (((1, 2, 0x101, 0x102), (0x102, 1)), (2, 3)),
        (((1, 2, 0x101), (0x101, 2, 1)), (3, 2)),
        (((2, 0x102), (2, 0x101)), (0xFF, 0x81)),
        (((2,), (1,)), (1, 1)),
        (((0x103,), (0x103,)), (1, 1)),
        (((1,), (1,)), (1, 2)),
        (((1,), (1,)), (0, 3)),
        (((1,), (1,)), (0xFC, 0xFC)),
    ):
        a, b = (make_kex(m, s, bytes(32), ()) for m, s in zip(masks, suites))
        case = {"suites": suites, "masks": masks}
        try:
            case["suite"], case["binding_type"] = choose(a, b)
        except SessionError as error:
            case |= {"code": int(error.code), "code_name": error.code.name}
        out.append(case)
    return out
