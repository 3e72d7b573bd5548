"""Self-tests: `python3 -m unittest discover -s v2/tests -t .` in `tests/interop`."""
