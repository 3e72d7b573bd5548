"""Writes the vectors of session v2, or compares them.

    python3 -m v2.vectors [--check] [--folder FOLDER]

The default folder is `glueberry-proto/tests/vectors/v2`.
"""

import argparse
import sys
from pathlib import Path

from . import files

HERE = Path(__file__).resolve()
FOLDER = HERE.parents[4] / "glueberry-proto" / "tests" / "vectors" / "v2"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments.add_argument("--folder", type=Path, default=FOLDER)
    chosen = arguments.parse_args()
    wanted = files()
    if chosen.check:
        found = {path.name: path.read_text() for path in chosen.folder.glob("*.json")}
        wrong = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
        for name in wrong:
            print(f"{name} differs", file=sys.stderr)
        return 1 if wrong else 0
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name, text in wanted.items():
        (chosen.folder / name).write_text(text)
        print(f"{name}: {len(text)} bytes")
    return 0


sys.exit(main())
