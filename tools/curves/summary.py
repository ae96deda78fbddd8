"""Means over pictures and draws, and the CSV file that keeps them."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from curves.measure import Draw
from robuststream.files.writing import write_file


@dataclass(frozen=True)
class Row:
    """A codec behind a channel at a level; a line of the CSV.

    Attributes:
        bpp: of the whole file, mean over the pictures.
        draws: damaged streams, over all pictures.
        psnr, ms_ssim: means; `_error` is the standard error over the draws, the pictures being fixed.
        lost: mean share of pixels that are not what the undamaged stream gives; all, where there is no picture.
        silent, failed: share of the draws with a wrong picture and no word of it; without a picture.
        crashed: share in which the decoder crashed or had to be stopped; these failed as well.
    """

    codec: str
    channel: str
    level: float
    bpp: float
    pictures: int
    draws: int
    psnr: float
    psnr_error: float
    ms_ssim: float
    ms_ssim_error: float
    lost: float
    silent: float
    failed: float
    crashed: float


def summarise(codec: str, draws: list[Draw]) -> list[Row]:
    cells: dict[tuple[str, float], dict[str, list[Draw]]] = defaultdict(lambda: defaultdict(list))
    for draw in draws:
        cells[draw.channel, draw.level][draw.picture].append(draw)
    rows = []
    for (channel, level), by_picture in cells.items():
        flat = [draw for group in by_picture.values() for draw in group]
        psnr, psnr_error = _mean([[draw.psnr for draw in group] for group in by_picture.values()])
        ms_ssim, ms_ssim_error = _mean([[draw.ms_ssim for draw in group] for group in by_picture.values()])
        rows.append(
            Row(
                codec=codec,
                channel=channel,
                level=level,
                bpp=_share(draw.bpp for draw in flat),
                pictures=len(by_picture),
                draws=len(flat),
                psnr=psnr,
                psnr_error=psnr_error,
                ms_ssim=ms_ssim,
                ms_ssim_error=ms_ssim_error,
                lost=_share(draw.lost for draw in flat),
                silent=_share(draw.silent for draw in flat),
                failed=_share(draw.failed for draw in flat),
                crashed=_share(draw.end in ("crash", "hang") for draw in flat),
            )
        )
    return rows


def _share(values: object) -> float:
    return float(np.mean(list(values)))  # type: ignore[call-overload]


def _mean(groups: list[list[float]]) -> tuple[float, float]:
    """Mean of the pictures' means, and its standard error: strata that are sampled independently."""
    mean = float(np.mean([np.mean(group) for group in groups]))
    variances = [np.var(group, ddof=1) / len(group) if len(group) > 1 else 0.0 for group in groups]
    return mean, float(np.sqrt(np.sum(variances)) / len(groups))


def write_summary(path: Path, rows: dict[str, list[Row]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for row in (row for group in rows.values() for row in group):
        writer.writerow(f"{v:.5g}" if isinstance(v, float) else v for v in asdict(row).values())
    write_file(path, text.getvalue().encode())


def read_summary(path: Path) -> dict[str, list[Row]]:
    """Rows by codec, in the order of the file; nothing where there is none."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for line in csv.DictReader(path.read_text().splitlines() if path.exists() else []):
        kinds = {field.name: field.type for field in fields(Row)}
        values = {name: {"float": float, "int": int}.get(str(kinds[name]), str)(value) for name, value in line.items()}
        rows[line["codec"]].append(Row(**values))  # type: ignore[arg-type]
    return dict(rows)
