"""`robuststream freeze`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from robuststream.cli.common import FINE, one_line
from robuststream.cli.parameters import FILE, WORD, argument, command, force_option
from robuststream.cli.places import MODEL, STANDARD, UsageError, as_output, check_input, check_output, write_output


@command("freeze")
@argument(
    "architecture",
    metavar="NAME",
    what="CompressAI's name of the architecture, such as mbt2018-mean; or package.module:function, which is called "
    "without arguments for the module to load the checkpoint into.",
)
@argument("checkpoint", metavar="CHECKPOINT", type=FILE, what="A state dict, as torch.save or safetensors write it.")
@argument("out", metavar="OUT", type=WORD, what="The model file.")
@click.option("--name", help="Name of the model, for people.")
@click.option("--licence", default="", help="Licence of the weights, kept in the file.")
@click.option("--attribution", default="", help="Whom to name for the weights, kept in the file.")
@click.option("--update-tables", is_flag=True, help="Build the CDF tables anew from the weights, as update() does.")
@click.option("--verbose", "-v", is_flag=True, help="The proof layer by layer.")
@force_option
def freeze(
    architecture: str,
    checkpoint: Path,
    out: str,
    name: str | None,
    licence: str,
    attribution: str,
    update_tables: bool,
    verbose: bool,
    force: bool,
) -> int:
    """Freeze a CompressAI checkpoint into a model file, and print the proof that its entropy networks are exact."""
    target = as_output(out)
    if target == STANDARD:
        raise UsageError("a model file is not written to standard output: name a file")
    check_output(target, force, MODEL, [checkpoint])
    check_input(checkpoint)

    from robuststream.model.freeze import freeze_checkpoint

    if ":" in architecture:
        # Python looks beside the program it runs; a user who names a factory means the folder they are in.
        sys.path.insert(0, "")
    model = freeze_checkpoint(
        architecture,
        checkpoint,
        name=name,
        licence=licence,
        attribution=attribution,
        update_tables=update_tables,
    )
    data = model.to_bytes()
    write_output(target, data, force)
    print(f"{one_line(str(target))}: {one_line(model.name)}")
    print(f"  parameters {model.parameters_digest.hex()}")
    print(f"  synthesis  {model.synthesis_digest.hex()}")
    print(f"  bytes      {len(data)}")
    for network, bounds in model.bounds.items():
        print(f"  {network}: sums below 2^{max(bound.bits for bound in bounds):.2f} of 2^52")
        for bound in bounds if verbose else ():
            least, most = bound.shifts
            print(f"    layer {bound.layer}: sums below 2^{bound.bits:.2f}, shifted by {least} to {most} bits")
    return FINE
