"""The command `mpm`: every verb parses, calls one function and prints what it says.

Heavy imports live inside the commands, so that `mpm --help` answers at once.
"""

import sys
from typing import Annotated

import typer

from mpm_model.errors import InputError
from pipelines import cli_cluster, cli_lift, cli_results
from pipelines.cli_options import EXIT_BAD_INPUTS, EXIT_INPUT, Data, MaxBadFraction, Out, Override

app = typer.Typer(
    name="mpm",
    help="Masked pose modelling on Ray: motion capture in, a model that lifts 2D keypoints to 3D out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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


app.command()(cli_lift.lift)
app.command()(cli_lift.complete)
app.command()(cli_lift.calibrate)
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
