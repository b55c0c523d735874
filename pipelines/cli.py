"""The command `mpm`: every verb parses, calls one function and prints what it says.

Heavy imports live inside the commands, so that `mpm --help` answers at once.
"""

import sys
from typing import Annotated

import typer

from mpm_model.errors import InputError
from pipelines import cli_cluster, cli_results

app = typer.Typer(
    name="mpm",
    help="Masked pose modelling on Ray: motion capture in, a model that lifts 2D keypoints to 3D out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

EXIT_INPUT = 2
"""What the user gave is wrong."""
EXIT_BAD_INPUTS = 3
"""Done, but more inputs were bad than allowed."""

Out = Annotated[str, typer.Option(help="Folder or URL to write; an earlier run of the same is continued.")]
Data = Annotated[list[str], typer.Option(help="Windows that `mpm prepare` made; may be repeated.")]
Override = Annotated[
    list[str] | None, typer.Option("--set", help="Setting to change: optimiser.learning_rate=1e-4.")
]
MaxBadFraction = Annotated[
    float, typer.Option(min=0, max=1, help="Share of bad inputs above which the exit code is 3.")
]


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Local folder to write.")] = "demo_out",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove an earlier demo there first.")
    ] = False,
) -> None:
    """The whole path on the bundled sample: minutes; ends with a table and a page to open."""
    from pipelines.demo import run

    run(out=out, overwrite=overwrite, say=_say)


@app.command()
def prepare(
    source: Annotated[list[str], typer.Argument(help="Files, folders or URLs of recordings.")],
    reader: Annotated[str, typer.Option(help="Format: asf_amc, bvh, trc or ui_prmd.")],
    out: Out,
    window_frames: Annotated[int, typer.Option(help="Frames of a window.")] = 81,
    hop_frames: Annotated[int, typer.Option(help="Frames between the starts of neighbouring windows.")] = 27,
    rate_hz: Annotated[float, typer.Option(help="Rate that every recording is resampled to.")] = 50.0,
    shortest_frames: Annotated[
        int | None, typer.Option(help="Recordings of fewer than a window's but so many frames are padded.")
    ] = None,
    source_rate_hz: Annotated[
        float | None, typer.Option(help="Rate of the recordings, where the format does not say or is wrong.")
    ] = None,
    unit_m: Annotated[
        float | None, typer.Option(help="Metres of one unit, where the format does not say.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the data set, if the reader cannot tell.")
    ] = None,
    max_bad_fraction: MaxBadFraction = 0.1,
) -> None:
    """Turn motion-capture recordings into Parquet windows.

    Example: mpm prepare mocap/cmu --reader asf_amc --out windows/cmu
    """
    from pipelines.console import counted_progress
    from pipelines.prepare import PrepareConfig, run

    config = PrepareConfig(
        window_frames=window_frames,
        hop_frames=hop_frames,
        rate_hz=rate_hz,
        shortest_frames=shortest_frames,
        source_rate_hz=source_rate_hz,
        unit_m=unit_m,
        dataset=dataset,
    )
    with counted_progress("prepare") as progress:
        summary = run(
            source,
            reader=reader,
            out=out,
            config=config,
            max_bad_fraction=max_bad_fraction,
            progress=progress,
        )
    _say(*summary.lines())
    if summary.has_too_many_bad:
        raise typer.Exit(EXIT_BAD_INPUTS)


@app.command()
def pretrain(
    config: Annotated[str, typer.Argument(help="Name of a shipped configuration, or a path.")],
    data: Data,
    out: Out,
    override: Override = None,
) -> None:
    """Pre-train the shared transformer by masked pose modelling.

    Example: mpm pretrain pretrain_base --data windows/cmu --data windows/ui_prmd --out models/pretrained
    """
    from pipelines.console import training_progress
    from pipelines.pretrain import run

    with training_progress() as progress:
        summary = run(config, data=data, out=out, overrides=override or [], progress=progress)
    _say(*summary.lines())


@app.command()
def finetune(
    config: Annotated[str, typer.Argument(help="Name of a shipped configuration, or a path.")],
    data: Data,
    out: Out,
    init: Annotated[
        str | None, typer.Option(help="Pre-trained checkpoint; without it, from scratch.")
    ] = None,
    override: Override = None,
) -> None:
    """Fine-tune a pre-trained model to lift 2D to 3D, to complete 3D, or both.

    Example: mpm finetune finetune_base --init models/pretrained --data windows/cmu --out models/lifter
    """
    from pipelines.console import training_progress
    from pipelines.finetune import run

    with training_progress() as progress:
        summary = run(config, init=init, data=data, out=out, overrides=override or [], progress=progress)
    _say(*summary.lines())


app.command()(cli_results.evaluate)
app.command()(cli_results.table)


@app.command()
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
    _say(*summary.lines())
    if summary.has_too_many_bad:
        raise typer.Exit(EXIT_BAD_INPUTS)


@app.command()
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
    _say(*run(source, out=out, config=config))


app.command()(cli_results.view)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="Checkpoint file of the paper's code, or a folder of ours.")
    ],
    out: Annotated[str, typer.Option(help="Folder or URL to write; one ONNX file may be named.")],
    to: Annotated[str, typer.Option(help="checkpoint, or onnx for a folder of ours.")] = "checkpoint",
    rate_hz: Annotated[
        float | None, typer.Option(help="Rate of the poses a file was trained on; default: 25, as published.")
    ] = None,
) -> None:
    """Convert a checkpoint of the paper's own code to ours, or ours to ONNX.

    Example: mpm convert model.pth --out models/published
    """
    from pipelines.convert import ConvertConfig, run

    _say(*run(source, out=out, config=ConvertConfig(to=to, rate_hz=rate_hz)))


app.command()(cli_results.inspect)


@app.command()
def fit_noise(
    source: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders or URLs of 2D keypoints.")
    ],
    out: Annotated[str, typer.Option(help="YAML file to write, a part of a run's configuration.")],
    format: Annotated[
        str | None, typer.Option(help="Format of the keypoints; default: seen from the files.")
    ] = None,
    rate_hz: Annotated[
        float | None, typer.Option(help="Rate of the video, where the format does not say.")
    ] = None,
    image_size: Annotated[str | None, typer.Option(help="1920x1080, where the format does not say.")] = None,
) -> None:
    """See from your own 2D keypoints how your detector errs, to train for it.

    Example: mpm fit-noise openpose_output/ --rate-hz 60 --out noise.yaml
    """
    from pipelines.detections.source import ReadOptions, parse_image_size
    from pipelines.fit_noise import run

    width_px, height_px = parse_image_size(image_size)
    options = ReadOptions(format=format, rate_hz=rate_hz, width_px=width_px, height_px=height_px)
    _say(*run(source, out=out, options=options))


@app.command()
def doctor(
    storage: Annotated[str | None, typer.Option(help="URL to try reading from and writing to.")] = None,
) -> None:
    """Can this machine do the work: versions, memory, GPU, Ray, storage."""
    from pipelines.doctor import run

    report = run(storage_url=storage)
    _say(*report.lines())
    if not report.is_able:
        raise typer.Exit(EXIT_INPUT)


app.command(context_settings={"allow_interspersed_args": False})(cli_cluster.submit)


def main() -> None:
    """Run a verb: what the user gave wrong is one line and exit code 2, our own bugs keep their traceback."""
    try:
        app()
    except InputError as error:
        typer.echo(f"mpm: {error}", err=True)
        sys.exit(EXIT_INPUT)


def _say(*lines: str) -> None:
    for line in lines:
        typer.echo(line)
