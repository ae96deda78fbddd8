"""Where the time goes, as a table and as a picture of stacked bars, the limit beside it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import groupby

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from bars.stages import STAGES

#: M. Okabe and K. Ito's colours, told apart by the colour-blind, in the order of the stages.
COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#F0E442", "#000000", "#009E73", "#CC79A7", "#8B4513", "#E69F00", "#BBBBBB")


@dataclass(frozen=True)
class Row:
    """One action of one model: its whole seconds, unwatched; by stage, watched; and the least they can take."""

    model: str
    action: str
    seconds: float
    spent: dict[str, float]
    least: dict[str, float]

    @property
    def limit(self) -> dict[str, float]:
        """Of the stages that this action has."""
        return {stage: seconds for stage, seconds in self.least.items() if self.spent.get(stage)}


def table(rows: list[Row]) -> str:
    """Milliseconds, in Markdown. Stages that take none anywhere are left out."""
    shown = [stage for stage in STAGES if any(row.spent.get(stage, 0) >= 5e-5 for row in rows)]
    lines = [
        f"| milliseconds | whole | {' | '.join(shown)} | watched |",
        "|" + "---|" * (len(shown) + 3),
    ]
    for row in rows:
        cells = [_milliseconds(row.spent.get(stage, 0)) for stage in shown]
        whole = _milliseconds(row.seconds)
        lines.append(
            f"| {row.model}: {row.action} | {whole} | {' | '.join(cells)} | {_milliseconds(sum(row.spent.values()))} |"
        )
        if row.limit:
            cells = [_milliseconds(row.limit.get(stage, 0)) for stage in shown]
            lines.append(f"| at least | {_milliseconds(sum(row.limit.values()))} | {' | '.join(cells)} | |")
    return "\n".join(lines)


def _milliseconds(seconds: float) -> str:
    return "–" if seconds < 5e-5 else f"{1000 * seconds:.1f}"


def figure(rows: list[Row]) -> bytes:
    """A PNG: one panel a model, one bar an action, and below ours the least it can take."""
    models = [(name, list(group)) for name, group in groupby(rows, lambda row: row.model)]
    plot, panels = plt.subplots(len(models), 1, figsize=(9, 0.6 + 1.9 * len(models)), squeeze=False)
    for panel, (name, group) in zip(panels[:, 0], models, strict=True):
        bars = []
        for row in group:
            bars.append((row.action, row.spent))
            if row.limit:
                bars.append(("at least", row.limit))
        for place, (_, spent) in enumerate(bars):
            left = 0.0
            for stage, colour in zip(STAGES, COLOURS, strict=True):
                width = 1000 * spent.get(stage, 0)
                panel.barh(place, width, left=left, color=colour, label=stage)
                left += width
        panel.set_yticks(range(len(bars)), [label for label, _ in bars])
        panel.invert_yaxis()
        panel.set_title(f"{name}, milliseconds", fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    plot.legend(handles[: len(STAGES)], labels[: len(STAGES)], ncol=5, loc="lower center", fontsize=8)
    plot.tight_layout(rect=(0, 0.55 / (0.6 + 1.9 * len(models)), 1, 1))
    buffer = io.BytesIO()
    plot.savefig(buffer, dpi=110)
    plt.close(plot)
    return buffer.getvalue()
