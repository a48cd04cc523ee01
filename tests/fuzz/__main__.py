"""``python -m tests.fuzz TARGET [CORPUS] [-max_total_time=SECONDS …]``: libFuzzer's options.

Needs ``pip install atheris``. A folder CORPUS keeps what was found; without one there is none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["monitor"]):
    from tests.fuzz.seeds import SEEDS
    from tests.fuzz.targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {'|'.join(TARGETS)} [CORPUS] [OPTION...]")
    name, *rest = sys.argv[1:]
    if rest and not rest[0].startswith("-"):
        folder = Path(rest[0])
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(SEEDS[name]):
            (folder / f"seed-{number:03}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *rest], TARGETS[name])
    atheris.Fuzz()


main()
