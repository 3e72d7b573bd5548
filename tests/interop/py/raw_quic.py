"""A small Glueberry peer over raw QUIC, with aioquic and the implementation of `../v2`.

It greets, and echoes what it gets. One JSON object per line goes out: what happened.

    python raw_quic.py --profile v2 [--habit HABIT] [--dial ADDRESS]

With `no-exporter` its sessions are bound to nothing, with `other-exporter` to another connection.
"""

import argparse
import json
import os
import select
import socket
import sys
import time

from certificate import peer_id
from quic import Endpoint

TICK, MOST_AT_ONCE = 0.02, 64
BINDINGS = {"no-exporter": "none", "other-exporter": "another"}


def tell(**what):
    print(json.dumps(what), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=["quic"], default="quic")
    parser.add_argument("--profile", choices=["v2"], default="v2")
    parser.add_argument("--habit", choices=["none", "leaves", *BINDINGS], default="none")
    parser.add_argument("--dial")
    args = parser.parse_args()
    # /ip4/A/udp/P/quic-v1/p2p/ID
    parts = args.dial.split("/") if args.dial else None
    expected = parts[7] if parts else None
    endpoint = Endpoint(os.urandom(32), tell, expected, BINDINGS.get(args.habit, "exporter"))
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    own.bind(("127.0.0.1", 0))
    own.setblocking(False)
    address = f"/ip4/127.0.0.1/udp/{own.getsockname()[1]}/quic-v1"
    tell(event="listening", address=address, id=peer_id(endpoint.identity.id))
    if parts:
        endpoint.dial((parts[2], int(parts[4])), time.monotonic())
    run(endpoint, own)


def run(endpoint, own):
    """Ends with the process that has started it, which ends the input."""
    while True:
        for data, address in endpoint.work(time.monotonic()):
            try:
                own.sendto(data, address)
            except BlockingIOError:
                # It is lost, as any datagram may be.
                pass
        timer = endpoint.timer()
        wait = TICK if timer is None else max(0, min(TICK, timer - time.monotonic()))
        ready, _, _ = select.select([own, sys.stdin], [], [], wait)
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096):
            return
        if own in ready:
            receive(endpoint, own)


def receive(endpoint, own):
    for _ in range(MOST_AT_ONCE):
        try:
            data, address = own.recvfrom(65_536)
        except BlockingIOError:
            return
        except ConnectionError:
            # The system tells so that a datagram before was not taken.
            continue
        endpoint.receive(data, address, time.monotonic())


main()
