"""The figure of `tools/resilience.py`: what is measured by rows, channels by columns, codecs by colour."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

from curves.channels import BIT_ERRORS, BURSTS, LEVELS, LOSS, MTU
from curves.measure import UNDAMAGED
from curves.summary import Row
from robuststream.files.writing import write_file


@dataclass(frozen=True)
class Style:
    label: str
    colour: str
    line: Any = "-"
    width: float = 1.6


#: Colours of M. Okabe and K. Ito, told apart by the colour-blind; what belongs together shares one.
STYLES = {
    "robuststream": Style("robuststream", "#D55E00", "-", 4.0),
    "robuststream, parity 20 %": Style("robuststream, parity 20 %", "#D55E00", (0, (1, 1)), 2.6),
    "robuststream, parity 5 %": Style("robuststream, parity 5 %", "#D55E00", (0, (4, 1.2)), 2.6),
    "CompressAI": Style("CompressAI, same model", "#000000"),
    "JPEG": Style("JPEG", "#0072B2"),
    "JPEG, restart markers": Style("JPEG, restart markers", "#0072B2", (0, (4, 1.2))),
    "JPEG 2000": Style("JPEG 2000", "#009E73"),
    "JPEG 2000, tiles, SOP, EPH": Style("JPEG 2000, tiles, SOP/EPH", "#009E73", (0, (4, 1.2))),
    "WebP": Style("WebP", "#CC79A7"),
    "AVIF": Style("AVIF", "#56B4E9"),
}
COLUMNS = {
    BIT_ERRORS: "bit error rate",
    LOSS: f"lost datagrams of {MTU:,} bytes",
    BURSTS: "lost datagrams, in bursts of 3",
}
MEASURES: tuple[tuple[str, Callable[[Row], float]], ...] = (
    ("PSNR, dB", lambda row: row.psnr),
    ("MS-SSIM", lambda row: row.ms_ssim),
    ("wrong picture and\nno word of it, %", lambda row: 100 * row.silent),
)
#: Inches and dots an inch: twice the width at which a README is shown.
SIZE, DPI = (11.2, 9.2), 150
INK, FAINT = "#333333", "#DDDDDD"


def draw_figure(rows: dict[str, list[Row]], path: Path) -> None:
    """A PNG of few colours. Codecs without a style or rows are not shown."""
    shown = {name: rows[name] for name in STYLES if name in rows}
    settings = {"font.family": "DejaVu Sans", "font.size": 10, "text.color": INK, "axes.edgecolor": INK}
    with plt.rc_context({**settings, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}):
        figure, axes = plt.subplots(len(MEASURES), len(COLUMNS), figsize=SIZE, sharey="row", sharex="col")
        for across, (what, value) in zip(axes, MEASURES, strict=True):
            for axis, channel in zip(across, COLUMNS, strict=True):
                for name, measured in shown.items():
                    _curve(axis, STYLES[name], _points(measured, channel, value))
                _frame(axis, channel)
            across[0].set_ylabel(what)
        for axis, title in zip(axes[0], COLUMNS.values(), strict=True):
            axis.set_title(title, fontsize=11, loc="left", color=INK)
        figure.subplots_adjust(left=0.075, right=0.8, top=0.955, bottom=0.04, wspace=0.08, hspace=0.12)
        for across, (_, value) in zip(axes, MEASURES, strict=True):
            _names(across[-1], {name: _points(measured, BURSTS, value)[-1][1] for name, measured in shown.items()})
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=DPI, facecolor="white")
        plt.close(figure)
    small = io.BytesIO()
    Image.open(data).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    write_file(path, small.getvalue())


def _points(measured: list[Row], channel: str, value: Callable[[Row], float]) -> list[tuple[int, float]]:
    """Levels at equal distances, the undamaged stream first."""
    levels = (UNDAMAGED.level, *LEVELS[channel])
    return [(levels.index(row.level), value(row)) for row in measured if row.channel in (channel, UNDAMAGED.channel)]


def _curve(axis: Any, style: Style, points: list[tuple[int, float]]) -> None:
    axis.plot(
        *zip(*points, strict=True), color=style.colour, linestyle=style.line, linewidth=style.width, zorder=style.width
    )


def _frame(axis: Any, channel: str) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.tick_params(length=0)
    axis.margins(x=0.02)
    labels = ["0", *(_exponent(v) if channel == BIT_ERRORS else f"{100 * v:.0f} %" for v in LEVELS[channel])]
    axis.set_xticks(range(len(labels)), labels)


def _exponent(level: float) -> str:
    return f"$10^{{{round(float(f'{level:e}'.split('e')[1]))}}}$"


def _names(axis: Any, ends: dict[str, float]) -> None:
    """A name beside the end of each curve, moved up or down where names would cover each other."""
    low, high = axis.get_ylim()
    step = (high - low) / 12.5
    # Of curves that end on one point the first is named: the others' colours are known from where they do not.
    first = {round(1000 * end / (high - low)): name for name, end in reversed(ends.items())}
    names = sorted(first.values(), key=lambda name: ends[name])
    places = [ends[name] for name in names]
    for _ in range(500):  # push neighbours apart, and all of them inside
        for lower, upper in zip(range(len(places)), range(1, len(places)), strict=False):
            overlap = step - (places[upper] - places[lower])
            if overlap > 0:
                places[lower] -= overlap / 2
                places[upper] += overlap / 2
        places = [
            min(max(place, low + step * n), high - step * (len(places) - 1 - n)) for n, place in enumerate(places)
        ]
    right = len(LEVELS[BURSTS])
    for name, place in zip(names, places, strict=True):
        style = STYLES[name]
        axis.annotate(
            style.label,
            (right, ends[name]),
            (right + 0.4, place),
            annotation_clip=False,
            va="center",
            color=style.colour,
            fontsize=9.5,
            fontweight="bold" if style.width > 2 else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": style.colour,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )
