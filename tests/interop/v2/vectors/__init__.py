"""Known-answer vectors: `python3 -m v2.vectors [--check]` in `tests/interop`."""

import json


def files():
    """The text of every file by its name. Two calls give the same text."""
    from . import handshake_errors, handshakes, instances, parts, stream_errors, streams

    made = {
        "identities": parts.identities(),
        "names": parts.names(),
        "choices": parts.choices(),
        "ml_kem": parts.kems(),
        "epochs": parts.epochs(),
        "handshakes": handshakes.cases(),
        "handshake_accepted": handshake_errors.accepted(),
        "handshake_errors": handshake_errors.refused(),
        "streams": streams.cases(),
        "boundaries": streams.boundaries(),
        "instances": instances.cases(),
        "stream_errors": stream_errors.cases(),
    }
    return {f"{name}.json": text(cases) for name, cases in made.items()}


def text(cases):
    return json.dumps(cases, indent=1, default=plain) + "\n"


def plain(value):
    """Bytes are written as hex."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    raise TypeError(type(value))
