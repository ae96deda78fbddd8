"""`robuststream freeze`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from robuststream.cli.common import ForceOption, one_line
from robuststream.cli.places import MODEL, STANDARD, UsageError, as_output, check_input, check_output, write_output


def freeze(
    architecture: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="CompressAI's name of the architecture, such as mbt2018-mean; or package.module:function, which is "
            "called without arguments for the module to load the checkpoint into.",
        ),
    ],
    checkpoint: Annotated[Path, typer.Argument(help="A state dict, as torch.save writes it.")],
    out: Annotated[str, typer.Argument(help="The model file.")],
    name: Annotated[str | None, typer.Option(help="Name of the model, for people.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights, kept in the file.")] = "",
    attribution: Annotated[str, typer.Option(help="Whom to name for the weights, kept in the file.")] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="The proof layer by layer.")] = False,
    force: ForceOption = False,
) -> None:
    """Freeze a CompressAI checkpoint into a model file, and print the proof that its entropy networks are exact."""
    target = as_output(out)
    if target == STANDARD:
        raise UsageError("a model file is not written to standard output: name a file")
    check_output(target, force, MODEL, [checkpoint])
    check_input(checkpoint)

    from robuststream.freezing import freeze_checkpoint

    if ":" in architecture:
        # Python looks beside the program it runs; whoever names a factory means the folder they are in.
        sys.path.insert(0, "")
    model = freeze_checkpoint(architecture, checkpoint, name=name, licence=licence, attribution=attribution)
    data = model.to_bytes()
    write_output(target, data, force)
    print(f"{one_line(str(target))}: {one_line(model.name)}")
    print(f"  parameters {model.parameters_digest.hex()}")
    print(f"  synthesis  {model.synthesis_digest.hex()}")
    print(f"  bytes      {len(data)}")
    for network, bounds in model.bounds.items():
        print(f"  {network}: sums below 2^{max(bound.bits for bound in bounds):.2f} of 2^53")
        for bound in bounds if verbose else ():
            print(f"    layer {bound.layer}: sums below 2^{bound.bits:.2f}, weights at 2^-{bound.fraction_bits}")
