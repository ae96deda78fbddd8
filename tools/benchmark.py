"""Measure the bars: figure, bar, whether it holds. Wants a quiet machine and the `compressai` extra.

    python tools/benchmark.py NAME... [--json] [--photos DIR]

NAME is one of the list below, or `all`; `fresh-large-24-64` and its like are single cells of `fresh-large`: megapixels,
side of a tile. `--small` tries `codec-cpu` and `codec-gpu` in a minute, with tiny nets: its figures mean nothing. Exit
code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bars import (
    codec,
    common,
    concealment,
    context,
    correction,
    exactness,
    fresh_large,
    inspection,
    large,
    native,
    parity,
    rate,
    reference,
    region,
    scan,
    speed,
    start,
    synthesis,
    threads,
)

BARS = {
    "exactness": exactness.exactness,
    "exact-rate": rate.exact_rate,
    "rans": speed.rans,
    "codec-cpu": codec.codec_cpu,
    "codec-gpu": codec.codec_gpu,
    "synthesis": synthesis.synthesis,
    "overhead": rate.overhead,
    "inspect": speed.inspect,
    "inspect-large": inspection.inspect_large,
    "scan": scan.scan,
    "rate-distortion": rate.rate_distortion,
    "large": large.large,
    "fresh-large": fresh_large.fresh_large,
    "region": region.region,
    "threads": threads.threads,
    "startup": start.startup,
    "context-exactness": context.context_exactness,
    "context-rate": context.context_rate,
    "native": native.native,
    "drift": native.drift,
    "parity": parity.parity_bar,
    "bit-correction": correction.bit_correction,
    "concealment": concealment.concealment,
    "reference": reference.reference,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = [*BARS, *fresh_large.CELLS, "all"]
    parser.add_argument("names", nargs="+", metavar="NAME", choices=choices, help=", ".join(choices))
    parser.add_argument("--photos", type=Path, default=common.PHOTOS, help="a folder of PNG photographs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true", help="codec-cpu, codec-gpu: a dry run")
    arguments = parser.parse_args()
    names = list(BARS) if "all" in arguments.names else arguments.names
    missed = False
    results = []
    for name in names:
        options = {"small": True} if arguments.small and name.startswith("codec-") else {}
        for figure in {**BARS, **fresh_large.CELLS}[name](arguments.photos, **options):
            missed |= figure.holds is False
            results.append({"bar": name, **asdict(figure)})
            if not arguments.json:
                verdict = (
                    "" if figure.holds is None else f"  (bar {figure.bar}: {'holds' if figure.holds else 'MISSED'})"
                )
                print(f"{name:16} {figure.what}: {figure.value}{verdict}", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
