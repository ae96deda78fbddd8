"""`robuststream freeze`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robuststream.cli.common import STANDARD, ForceOption, UsageError, check_output, write_output


def freeze(
    architecture: Annotated[
        str, typer.Argument(metavar="NAME", help="CompressAI's name of the architecture, such as mbt2018-mean.")
    ],
    checkpoint: Annotated[Path, typer.Argument(help="A state dict, as torch.save writes it.")],
    out: Annotated[Path, typer.Argument(help="The model file.")],
    name: Annotated[str | None, typer.Option(help="Name of the model, for people.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights, kept in the file.")] = "",
    attribution: Annotated[str, typer.Option(help="Whom to name for the weights, kept in the file.")] = "",
    force: ForceOption = False,
) -> None:
    """Freeze a CompressAI checkpoint into a model file, and print the proof that its entropy networks are exact."""
    if out == STANDARD:
        raise UsageError("a model file is not written to standard output: name a file")
    check_output(out, force)

    from robuststream.freezing import freeze_checkpoint

    model = freeze_checkpoint(architecture, checkpoint, name=name, licence=licence, attribution=attribution)
    write_output(out, model.to_bytes())
    print(f"{out}: {model.name}")
    print(f"  parameters {model.parameters_digest.hex()}")
    print(f"  synthesis  {model.synthesis_digest.hex()}")
    for network, bounds in model.bounds.items():
        for bound in bounds:
            print(
                f"  {network} layer {bound.layer}: sums below 2^{bound.bits:.2f} of 2^53, "
                f"weights at 2^-{bound.fraction_bits}"
            )
