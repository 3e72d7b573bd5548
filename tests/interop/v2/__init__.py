"""Glueberry's session v2, written from `glueberry-proto/WIRE.md` alone.

No module does I/O or reads a clock or a random generator: bytes and times go in, bytes and events
come out. Paragraph signs in comments refer to WIRE.md.
"""
