"""The part of the command `mpm` that makes poses: of keypoints, and of partial poses; `cli` takes it in."""

from typing import Annotated

import typer

from pipelines.cli_options import EXIT_BAD_INPUTS, MaxBadFraction, Out


def lift(
    source: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders or URLs of 2D keypoints.")
    ],
    out: Out,
    checkpoint: Annotated[
        str | None, typer.Option(help="Folder or URL; default: the weights that ship.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Format of the keypoints; default: seen from the files.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="fast: overlapping windows, blended; exact: a window for each frame; "
            "causal: from the past alone."
        ),
    ] = "fast",
    mirror: Annotated[
        bool, typer.Option(help="Lift the mirrored keypoints as well and average: twice the work.")
    ] = False,
    rate_hz: Annotated[
        float | None, typer.Option(help="Rate of the video, where the format does not say.")
    ] = None,
    image_size: Annotated[str | None, typer.Option(help="1920x1080, where the format does not say.")] = None,
    intrinsics: Annotated[
        str | None,
        typer.Option(help="Camera of all videos, FX,FY,CX,CY in pixels or a JSON file: places people in m."),
    ] = None,
    height_m: Annotated[
        float | None, typer.Option(help="Body height of the people: scales them, and places them roughly.")
    ] = None,
    upright: Annotated[
        bool, typer.Option(help="Find out which way is up, for a camera that stands still.")
    ] = False,
    shard_mib: Annotated[
        float, typer.Option(help="How much of the input one unit of work takes; larger files are split.")
    ] = 16.0,
    max_bad_fraction: MaxBadFraction = 0.1,
) -> None:
    """Lift 2D keypoints of videos to 3D poses; run again, only what is new or missing is done.

    Example: mpm lift openpose_output/ --checkpoint models/lifter --out poses
    """
    from pipelines.console import counted_progress
    from pipelines.detections.source import parse_image_size
    from pipelines.lift import run
    from pipelines.lift_config import LiftConfig
    from pipelines.placing import Placing, read_intrinsics

    width_px, height_px = parse_image_size(image_size)
    config = LiftConfig(
        checkpoint=checkpoint,
        format=format,
        mode=mode,
        rate_hz=rate_hz,
        width_px=width_px,
        height_px=height_px,
        is_mirrored=mirror,
        placing=Placing(
            intrinsics=None if intrinsics is None else read_intrinsics(intrinsics),
            height_m=height_m,
            is_upright=upright,
        ),
        shard_mib=shard_mib,
    )
    with counted_progress("lift") as progress:
        summary = run(source, out=out, config=config, max_bad_fraction=max_bad_fraction, progress=progress)
    typer.echo("\n".join(summary.lines()))
    if summary.has_too_many_bad:
        raise typer.Exit(EXIT_BAD_INPUTS)


def complete(
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="Poses that `mpm lift` made, or joints_m and rate_hz in npz."),
    ],
    out: Annotated[str, typer.Option(help="Folder or URL for poses, or a new npz file beside an npz input.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint of the task completion or unified.")
    ] = None,
    space: Annotated[str, typer.Option(help="Axes of an npz: camera (y down) or world (z up).")] = "camera",
    hidden_root: Annotated[
        str, typer.Option(help="Frames without a pelvis: refuse or interpolate.")
    ] = "refuse",
    keep_seen: Annotated[bool, typer.Option(help="Leave joints as given that were given.")] = True,
) -> None:
    """Fill in the hidden joints of 3D poses.

    Example: mpm complete capture.npz --space world --checkpoint models/completer --out poses
    """
    from pipelines.complete import CompleteConfig, run

    config = CompleteConfig(checkpoint=checkpoint, space=space, hidden_root=hidden_root, keep_seen=keep_seen)
    typer.echo("\n".join(run(source, out=out, config=config)))


def calibrate(
    checkpoint: Annotated[str, typer.Argument(help="Folder or URL of a checkpoint that lifts.")],
    data: Annotated[
        list[str], typer.Option(help="Windows that `mpm prepare` made, of people it may learn from.")
    ],
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="Windows whose test people it is measured on; default: those of --data."),
    ] = None,
) -> None:
    """Say with every lifted joint how far it may be from its true place.

    Example: mpm calibrate models/lifter --data windows/cmu --data windows/ui_prmd
    """
    from pipelines.calibrate import run

    typer.echo("\n".join(run(checkpoint, data=data, held_out=held_out or None)))
