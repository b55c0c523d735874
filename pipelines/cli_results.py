"""The part of the command `mpm` that measures, compares and shows what was made; `cli` takes it in."""

from typing import Annotated

import typer


def evaluate(
    data: Annotated[
        list[str],
        typer.Option(help="Windows, or the files or folder that the protocol names; may be repeated."),
    ],
    protocol: Annotated[
        str, typer.Option(help="lifting, reconstruction, open, occlusion, completion, h36m or 3dhp.")
    ],
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint folder or URL; default: the weights that ship.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mean with the mirrored input (h36m and 3dhp alone).")
    ] = False,
    keypoints_source: Annotated[
        str | None, typer.Option(help="Where the 2D is from, if the file's name does not say (h36m alone).")
    ] = None,
    json: Annotated[str | None, typer.Option(help="Also write the result here.")] = None,
) -> None:
    """Measure a model on people it never saw, beside baselines.

    Example: mpm evaluate --checkpoint models/lifter --data windows/cmu --protocol lifting
    """
    from pipelines.evaluate import run

    evaluation = run(
        checkpoint=checkpoint,
        data=data,
        protocol=protocol,
        flip=flip,
        keypoints_source=keypoints_source,
        json_url=json,
    )
    typer.echo("\n".join(evaluation.lines()))


def table(
    result: Annotated[
        list[str], typer.Argument(metavar="RESULT...", help="Files that `mpm evaluate --json` wrote.")
    ],
) -> None:
    """Put results of one protocol side by side.

    Example: mpm table ours.json theirs.json
    """
    from pipelines.table import run

    typer.echo("\n".join(run(result)))


def view(
    url: Annotated[str, typer.Argument(help="Poses that `mpm lift` made.")],
    out: Annotated[str, typer.Option(help="HTML page to write.")],
) -> None:
    """Draw poses beside their 2D input on one self-contained page.

    Example: mpm view poses --out page.html
    """
    from pipelines.view import run

    typer.echo("\n".join(run(url, out=out)))


def inspect(
    url: Annotated[str, typer.Argument(help="Windows, poses, a checkpoint, or a file to be read.")],
) -> None:
    """Say what is in a folder, URL or file: schema, counts, quality."""
    from pipelines.inspect import run

    typer.echo("\n".join(run(url)))
