"""Two sessions talk over a link that cuts at random places."""

import random
import unittest

from ..codes import Code, Misuse, Reset
from ..control import Config
from ..crypto import Identity
from ..link import Link
from ..session import Session

A, B = Identity(b"\x11" * 32), Identity(b"\x22" * 32)
NAMES = (b"a", b"chat")


def pair(seed, authenticated=True, suites=((1,), (1,)), send_again=True, most=5_000):
    sides = []
    for n, (own, peer) in enumerate(((A, B), (B, A))):
        config = Config(own, bytes([n]) * 32, suites=suites[n], names=NAMES)
        peer_id = peer.id if authenticated else None
        sides.append(Session(config, n == 0, peer_id, send_again=send_again))
    return Link(*sides, random.Random(seed), most)


def establish(link):
    for session, peer in zip(link.sessions, (B, A)):
        session.connected()
        session.send_handshake(b"hello")
        session.prepare(peer.id, NAMES)
        session.send_handshake(b"")
        session.finalize(link.now)
    link.run(lambda: all(s.state == "established" for s in link.sessions))


class Sessions(unittest.TestCase):
    def check(self, link):
        for session in link.sessions:
            self.assertEqual([r for r in session.reports if r[0] == "error"], [])

    def test_messages_both_ways(self):
        all_suites = (((1,), (1,)), ((2, 1), (1, 2)), ((0x101,), (1, 0x101)), ((0x102,), (0x102,)))
        for seed in range(24):
            chance = random.Random(seed)
            suites = all_suites[seed % 4]
            link = pair(seed, seed % 3 > 0, suites, most=chance.choice((3, 50, 5_000, 100_000)))
            establish(link)
            sent = [[], []]
            for n, session in enumerate(link.sessions):
                for _ in range(chance.randint(1, 60)):
                    length = chance.choice((0, 1, 127, 128, 200, chance.randint(0, 2_000)))
                    item = chance.choice(NAMES), chance.randbytes(length)
                    session.send(*item)
                    sent[n].append(item)
                    link.step()
            closing = 2 if seed % 5 == 0 else 1  # both at once, or the first when all has arrived
            if closing == 1:
                link.run(lambda: len(link.sessions[0].received) == len(sent[1]))
            for session in link.sessions[:closing]:
                session.close(link.now)
            link.run(lambda: all(s.state == "closed" for s in link.sessions), ms=0)
            self.check(link)
            for n, session in enumerate(link.sessions):
                self.assertEqual(session.end_code, Code.DONE)
                for name in NAMES:
                    wanted = [m for k, m in sent[1 - n] if k == name]
                    got = [m for k, m in session.received if k == name]
                    self.assertEqual(got, wanted if closing == 1 else wanted[: len(got)])
                    counts = link.sessions[1 - n].peer_counts[name]
                    self.assertEqual((counts.next, counts.lost), (len(got), 0))
                    self.assertEqual(session.outgoing[name].in_doubt(session.peer_counts[name]), 0)

    def test_broken_substreams(self):
        for seed in range(30):
            chance = random.Random(seed)
            link = pair(seed, send_again=seed % 2 == 0, most=200)
            establish(link)
            i, r = link.sessions
            wanted = [chance.randbytes(chance.randint(0, 300)) for _ in range(80)]
            for n, message in enumerate(wanted):
                i.send(b"chat", message)
                link.step()
                if chance.random() < 0.1 and link.substreams:
                    link.break_substream(link.substreams[-1])
                if chance.random() < 0.1:
                    i.end_instance(b"chat", link.now)
                if chance.random() < 0.1:
                    link.step(150)
            link.run(lambda: not i.outgoing[b"chat"].queue, ms=50)
            i.close(link.now)
            link.run(lambda: i.state == r.state == "closed", ms=5)
            got = [m for _, m in r.received]
            count = i.peer_counts[b"chat"]
            self.assertEqual(count.next - count.lost, len(got))
            self.assertEqual(i.outgoing[b"chat"].given, 80)
            at = 0
            for message in got:  # in order, none twice
                at = wanted.index(message, at) + 1
            self.check(link)

    def test_the_reader_is_slow(self):
        link = pair(1)
        establish(link)
        i, r = link.sessions
        r.queue_room = 2
        for n in range(20):
            i.send(b"a", bytes([n]))
        got = []
        while len(got) < 20:
            link.step(1_000)
            self.assertLessEqual(len(r.received), 2)
            got += [m for _, m in r.received]
            r.received.clear()
        self.assertEqual(got, [bytes([n]) for n in range(20)])

    def test_bytes_on_the_reverse_half(self):
        link = pair(2)
        establish(link)
        i, r = link.sessions
        i.send(b"a", b"zero")
        link.run(lambda: r.received)
        link.substreams[0].halves[1].data += b"x"
        link.run(lambda: link.substreams[0].halves[0].reset)
        self.assertEqual(link.substreams[0].halves[0].reset, Reset.REVERSE_BYTES)
        i.send(b"a", b"one")
        link.run(lambda: len(r.received) == 2, ms=20)
        self.assertIn(("truncated", b"a", 0, False), r.reports)
        self.assertIn(("opened", b"a", 1, 0, 2), r.reports)
        self.check(link)

    def test_control_channel_lost(self):
        link = pair(3)
        establish(link)
        link.run(lambda: not link.control[0].data and not link.control[1].data)
        for session in link.sessions:
            session.control_ended(link.now)
        link.sessions[0].send(b"chat", b"still")
        link.run(lambda: link.sessions[1].received)
        self.check(link)

    def test_misuse(self):
        link = pair(4)
        i = link.sessions[0]
        for call in (lambda: i.send_handshake(b""), lambda: i.prepare(B.id), lambda: i.finalize(0)):
            self.assertRaises(Misuse, call)
        i.connected()
        for key in (A.id, bytes(32), B.id[:31]):
            self.assertRaises(Misuse, i.prepare, key)
        self.assertRaises(Misuse, i.prepare, B.id, (b"handshake",))
        self.assertRaises(Misuse, i.send_handshake, bytes(65_537))
        establish(link)
        self.assertRaises(Misuse, i.send, b"other", b"")


if __name__ == "__main__":
    unittest.main()
