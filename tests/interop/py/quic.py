"""Raw QUIC (WIRE.md §3.1) with aioquic: connections, and a session of v2 on each.

Like the rest it has no loop: datagrams and times go in, datagrams come out.
"""

import os

from aioquic import tls
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from application import NAMES, Application
from certificate import BadCertificate, identity_of, make, peer_id
from cryptography.hazmat.primitives.hashes import Hash
from names import Acceptance, BadName, Proposal
from v2.codes import Code, Reset
from v2.crypto import Identity
from v2.receiving import Source
from v2.session import CONTROL
from v2.wire import HANDSHAKE_ID, STAYS, stream_id

ALPN, EXPORTER, EXPORTER_BYTES = "libp2p", b"EXPORTER-glueberry-2", 32
IDS = {stream_id(name): name for name in NAMES}
LEFT_TO_PEER = 1.0


class Connection(QuicConnection):
    """aioquic's connection, with the two things of TLS that it has no call for.

    It can ask a client for its certificate, but has no option for it. And it has no exporter: its
    master secret (RFC 8446 §7.1, "exp master") is derived from the transcript up to the server's
    Finished, where the key schedule stands when the first key of 1-RTT is announced.
    """

    exporter_master = None

    def _initialize(self, peer_cid):
        super()._initialize(peer_cid)
        self.tls._request_client_certificate = not self._is_client

    def _update_traffic_key(self, direction, epoch, cipher_suite, secret):
        if epoch == tls.Epoch.ONE_RTT and self.exporter_master is None:
            self.exporter_master = self.tls.key_schedule.derive_secret(b"exp master")
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)

    def exporter(self, label, length):
        """The exporter of RFC 8446 §7.5 with an empty context."""
        algorithm = self.tls.key_schedule.algorithm
        empty = Hash(algorithm).finalize()
        secret = tls.hkdf_expand_label(
            algorithm, self.exporter_master, label, empty, algorithm.digest_size
        )
        return tls.hkdf_expand_label(algorithm, secret, b"exporter", empty, length)

    def peer_certificates(self):
        first = self.tls._peer_certificate
        return [] if first is None else [first, *self.tls._peer_certificate_chain]


class Substream:
    """A stream of QUIC: first its name is agreed, then its bytes go where they belong."""

    def __init__(self, negotiation, name=None):
        self.negotiation, self.name = negotiation, name
        self.source = Source()
        self.is_ours = isinstance(negotiation, Proposal)


class Peer:
    """A connection, and the session on it."""

    def __init__(self, endpoint, quic, is_i, first=None):
        self.endpoint, self.quic, self.is_i = endpoint, quic, is_i
        self.application = Application(endpoint.tell, first)
        self.substreams, self.control = {}, None
        self.key = self.ends_at = None

    @property
    def session(self):
        return self.application.session

    def work(self, now):
        """Handles what aioquic has to tell, and does what is possible now."""
        while (event := self.quic.next_event()) is not None:
            self.handle(event, now)
        millis = int(now * 1000)
        if self.session is not None:
            self.read_control(millis)
            for what, *rest in self.application.work(millis):
                self.act(what, rest, now)
        if self.ends_at is not None and now >= self.ends_at:
            self.quic.close(int(self.session.end_code))
            self.ends_at = None

    # What aioquic tells.

    def handle(self, event, now):
        if isinstance(event, events.HandshakeCompleted):
            self.connected(int(now * 1000))
        elif isinstance(event, events.StreamDataReceived):
            self.received(event, int(now * 1000))
        elif isinstance(event, (events.StreamReset, events.StopSendingReceived)):
            self.was_reset(event, int(now * 1000))
        elif isinstance(event, events.ConnectionTerminated):
            self.ends_at = None
            self.endpoint.tell(event="ended", code=event.error_code)

    def connected(self, now):
        try:
            self.key = identity_of(self.quic.peer_certificates())
        except BadCertificate as why:
            self.endpoint.tell(event="refused", why=str(why))
            return self.quic.close(Code.MISBEHAVED)
        expected = self.endpoint.expected
        if self.is_i and expected not in (None, peer_id(self.key)):
            self.endpoint.tell(event="refused", why="another peer")
            return self.quic.close(Code.MISBEHAVED)
        if self.is_i:
            self.open(HANDSHAKE_ID)

    def received(self, event, now):
        number = event.stream_id
        if number not in self.substreams:
            self.substreams[number] = Substream(Acceptance(lambda id: self.accepts(number, id, now)))
        it = self.substreams[number]
        if it.negotiation is None:
            it.source.data += event.data
        else:
            it.negotiation.buffer += event.data
            try:
                self.negotiate(number, it, now)
            except BadName:
                self.reset(number, Reset.REFUSED)
        it.source.fin |= event.end_stream
        self.reverse(number, it, now)

    def negotiate(self, number, it, now):
        if it.is_ours:
            accepted = it.negotiation.answer()
            if accepted is False and it.name in IDS:
                self.session.refused(IDS[it.name], now)
            if accepted is None:
                return
            self.agreed(number, it, accepted, now)
        else:
            it.name = it.negotiation.name()
            self.write(number, it.negotiation.out)
            it.negotiation.out = b""
            if it.name is None:
                return
            if it.name == HANDSHAKE_ID:
                self.begin(number, now)
            elif it.name == STAYS:
                # The acceptance is the answer: a reset could overtake it.
                self.write(number, b"", is_last=True)
        it.source.data += it.negotiation.buffer
        it.negotiation = None

    def agreed(self, number, it, accepted, now):
        if it.name == HANDSHAKE_ID and accepted:
            self.begin(number, now)
        elif it.name == HANDSHAKE_ID:
            self.quic.close(Code.NO_COMMON_PROTOCOL)
        elif accepted:
            self.session.agreed(number, IDS[it.name], now)

    def accepts(self, number, id, now):
        """Whether a substream of the peer is wanted. A probe is answered by a refusal."""
        if id == HANDSHAKE_ID:
            return not self.is_i and self.control is None
        if id == STAYS:
            return self.session is not None and self.session.stays()
        if self.session is None or id not in IDS:
            return False
        return self.session.offer(number, IDS[id], self.substreams[number].source, now)

    def was_reset(self, event, now):
        it = self.substreams.get(event.stream_id)
        if it is None or it.name is None:
            return
        if event.stream_id == self.control:
            it.source.reset = True
        elif it.is_ours and it.negotiation is not None:
            it.negotiation = None
            self.session.refused(IDS[it.name], now)
        elif it.is_ours:
            self.session.reverse(event.stream_id, "reset", now)
        elif isinstance(event, events.StreamReset):
            it.source.reset = True

    def reverse(self, number, it, now):
        """What comes on the other half of a named substream of one's own."""
        if not it.is_ours or number == self.control or it.negotiation is not None:
            return
        if it.source.data:
            self.session.reverse(number, "bytes", now)
        elif it.source.fin:
            self.session.reverse(number, "fin", now)

    # The session.

    def begin(self, number, now):
        self.control = number
        exporter = self.endpoint.exporter(self.quic)
        self.application.begin(
            self.endpoint.identity, os.urandom(32), self.is_i, self.key, now, exporter
        )

    def read_control(self, now):
        source = self.substreams[self.control].source
        if source.data and self.session.control.wants():
            self.session.receive(source.take(), now)
        if not source.data and (source.fin or source.reset):
            self.session.control_ended(now)

    def open(self, id):
        number, proposal = self.quic.get_next_available_stream_id(), Proposal(id)
        self.substreams[number] = Substream(proposal, id)
        self.write(number, proposal.out)

    def act(self, what, rest, now):
        if what == "open":
            self.open(stream_id(rest[0]))
        elif what == "close":
            # Who has closed in order has all, and closes the connection; everybody else leaves what
            # was written the time to arrive (§9.2, §9.3).
            is_settled = rest[0] == Code.DONE and not self.session.answered
            self.ends_at = now if is_settled else now + LEFT_TO_PEER
        else:
            number = self.control if rest[0] is CONTROL else rest[0]
            if what == "write":
                self.write(number, rest[1])
            elif what == "fin":
                self.write(number, b"", is_last=True)
            else:
                self.reset(number, rest[1])

    def write(self, number, data, is_last=False):
        try:
            self.quic.send_stream_data(number, data, end_stream=is_last)
        except RuntimeError:
            # The peer has refused to read on, which the next event tells.
            return

    def reset(self, number, code):
        """Resets both halves."""
        self.quic.reset_stream(number, int(code))
        try:
            self.quic.stop_stream(number, int(code))
        except ValueError:
            # It has forgotten the stream: both halves are over.
            return


class Endpoint:
    """One socket's connections, told apart by the peer's address: a node here dials from one socket."""

    def __init__(self, seed, tell, expected=None, binding="exporter"):
        self.identity, self.tell, self.expected, self.binding = Identity(seed), tell, expected, binding
        self.certificate, self.key = make(seed)
        self.peers = {}

    def exporter(self, quic):
        """What the session is bound to: None if this side is to have no exporter."""
        if self.binding == "none":
            return None
        value = quic.exporter(EXPORTER, EXPORTER_BYTES)
        # As if somebody stood between, with a connection to each side.
        return bytes(EXPORTER_BYTES) if self.binding == "another" else value

    def configuration(self, is_client):
        return QuicConfiguration(
            alpn_protocols=[ALPN],
            is_client=is_client,
            certificate=self.certificate,
            private_key=self.key,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            # Whose certificate it is shows in its extension, not in a chain.
            verify_mode=0,
            max_data=32 << 20,
            idle_timeout=15.0,
        )

    def dial(self, address, now):
        quic = Connection(configuration=self.configuration(True))
        quic.connect(address, now)
        self.peers[address] = Peer(self, quic, is_i=True, first=b"first")

    def receive(self, data, address, now):
        if address not in self.peers:
            length = data[5] if len(data) > 6 else 0
            # The first datagram of a connection, with a long header, names it.
            if not data[0] & 0x80 or len(data) < max(1200, 6 + length):
                return
            quic = Connection(
                configuration=self.configuration(False),
                original_destination_connection_id=data[6 : 6 + length],
            )
            self.peers[address] = Peer(self, quic, is_i=False)
        self.peers[address].quic.receive_datagram(data, address, now)

    def work(self, now):
        """Returns the datagrams that are to go out, with where."""
        out = []
        for peer in self.peers.values():
            timer = peer.quic.get_timer()
            if timer is not None and now >= timer:
                peer.quic.handle_timer(now)
            peer.work(now)
            out += peer.quic.datagrams_to_send(now)
        return out

    def timer(self):
        """When there is something to do at the latest, None if there is nothing."""
        timers = [peer.quic.get_timer() for peer in self.peers.values()]
        return min((timer for timer in timers if timer is not None), default=None)
