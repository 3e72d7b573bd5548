"""The two nodes of the vectors and their fixed inputs."""

from ..control import Config
from ..crypto import Identity, sha256
from ..frames import frame
from ..kex import make_ephemerals
from ..schedule import ROLES, Epoch, Roots

A, B = Identity(bytes([0x11]) * 32), Identity(bytes([0x22]) * 32)
EXPORTER = bytes([0x77]) * 32
LONG_NAME = bytes(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
NAMES = (b"a", b"chat", LONG_NAME)


def pattern(n, seed=0):
    """n bytes that do not repeat soon."""
    out = b"".join(sha256(bytes([seed]) + at.to_bytes(4, "big")) for at in range(n // 32 + 1))
    return out[:n]


def config(identity, case, **more):
    """A side's inputs; `case` makes its entropy differ from case to case."""
    entropy = sha256(case.encode() + identity.id)
    made = Config(identity, entropy, wall=1_700_000_000_000, counter=7, names=NAMES, **more)
    made.ephemerals = make_ephemerals(
        identity.seed, entropy, made.wall, made.counter, made.binding_value
    )
    return made


def inputs(side):
    """The inputs of a config and what is derived from them alone."""
    e = side.ephemerals
    return {
        "seed": side.identity.seed,
        "id": side.identity.id,
        "x25519_private": side.identity.s,
        "x25519": side.identity.u,
        "suites": list(side.suites),
        "binding_mask": side.mask,
        "binding_value": side.binding_value,
        "extensions": [{"type": kind, "value": value} for kind, value in side.extensions],
        "app_context": side.app,
        "names": [name.decode() for name in side.names],
        "entropy": side.entropy,
        "wall": side.wall,
        "counter": side.counter,
        "hedge_key": e.hedge_key,
        "hedge_prk": e.prk,
        "ephemeral_private": e.private,
        "ephemeral": e.public,
        "kem_seed": e.kem_seed,
        "kem_coins": e.kem_coins,
    }


def frames_out(items):
    return [{"type": kind, "body": body, "wire": frame(kind, body)} for kind, body in items]


def epochs(secret, n):
    """Secret, key and iv of the first n epochs."""
    epoch, out = Epoch(secret), []
    for _ in range(n):
        out.append({"secret": secret, "key": epoch.key, "iv": epoch.iv})
        secret = epoch.next_secret
        epoch.step()
    return out


def stream_keys(schedule, name, direction, instances=3, rekeys=2):
    """Roots, instance secrets and epochs of one direction of a stream."""
    roots, out = Roots(schedule.root(direction, name)), []
    for number in range(instances):
        root = roots.root
        secret = roots.step()
        out.append({"instance": number, "root": root, "epochs": epochs(secret, rekeys)})
    return {
        "name": name.decode(),
        "direction": direction,
        "from": ROLES[direction].lower(),
        "instances": out,
    }
