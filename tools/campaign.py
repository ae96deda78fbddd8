"""Random damage, seeded: nothing wrong in silence, no foreign exception, nothing lost that stands whole.

    python tools/campaign.py NAME... [--seed N] [--trials N] [--first N] [--jobs N] [--photos DIR]

NAME is one of these, or `all`:

    fresh       undamaged streams of every layout, each of which must be called intact (100,000)
    container   damaged small streams through the reader (1,000,000)
    decode      damaged small streams through whole decodes (10,000)
    hits        a single hit of at most 512 bytes in streams of photographs (10,000)
    repair      damaged small streams, decoded as they are and after a repair (10,000)
    insertions  every byte value at every place of a small stream, through whole decodes (all of them)
    transfers   text-mode and other well-meant transfers of streams of photographs, each kind in turn (200 of each)

A trial depends on its seed and number alone, so what fails is printed as a call that does it again. Exit code 1 when
anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bars.common import PHOTOS
from campaigns.common import Campaign, quiet, run

TRIALS = {
    "fresh": 100_000,
    "container": 1_000_000,
    "decode": 10_000,
    "hits": 10_000,
    "repair": 10_000,
    "insertions": 0,
    "transfers": 0,
}


def make(name: str, photos: Path) -> Campaign:
    if name == "fresh":
        from campaigns.fresh import Fresh

        return Fresh()
    if name == "container":
        from campaigns.container import Container

        return Container()
    if name == "hits":
        from campaigns.hits import Hits

        return Hits(photos)
    if name == "repair":
        from campaigns.repair import Repairs

        return Repairs()
    if name == "transfers":
        from campaigns.transfers import Transfers

        return Transfers(photos)
    from campaigns.decode import Decodes, Insertions

    return Decodes() if name == "decode" else Insertions()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*TRIALS, "all"], help=", ".join([*TRIALS, "all"]))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", type=int, help="how many; without it, as many as stand behind the name above")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a folder of PNG photographs")
    parser.add_argument("--jobs", type=int, default=1, help="processes; they do not change what is found")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: at least one process is needed")
    quiet()
    failures = 0
    for name in TRIALS if "all" in arguments.names else arguments.names:
        campaign = make(name, arguments.photos)
        trials = arguments.trials or TRIALS[name] or len(campaign)  # type: ignore[arg-type]
        failures += run(
            name, campaign, arguments.seed, range(arguments.first, arguments.first + trials), arguments.jobs
        )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
