"""`mpm demo`: every verb once, on the bundled sample of real recordings; ends with a table and a page.

The one verb that calls others: it is the path itself.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path

from mpm_model.errors import InputError

Say = Callable[..., None]

MARKER = "demo.json"
"""Makes the folder ours; holds the figures at the end."""
STAGES = 7
WINDOW_FRAMES, HOP_FRAMES, RATE_HZ = 27, 3, 25.0
"""About a second at a rate at which people still move little between frames: small enough for two cores."""
READERS = {"cmu": "asf_amc", "ui_prmd": "ui_prmd"}
"""Data sets of the sample, and who reads them."""
TARGET = 0.4
"""By how much lifting should beat the mean pose."""


def run(*, out: str, overwrite: bool, say: Say) -> None:
    """Prepare, pre-train, evaluate, fine-tune, evaluate, lift, view; say what was done and what it gave."""
    from pipelines import evaluate, finetune, lift, prepare, pretrain, view
    from pipelines.console import training_progress
    from pipelines.lift_config import LiftConfig

    folder = claim(Path(out), overwrite=overwrite)
    sample = Path(str(resources.files("pipelines") / "sample"))
    stage = _stages(say)
    begun_s = time.monotonic()
    cores = len(os.sched_getaffinity(0))
    say(f"MPM on Ray, the whole path on the bundled sample of real recordings ({cores} cores)")

    windows = []
    with stage("prepare: motion capture becomes Parquet windows"):
        config = prepare.PrepareConfig(window_frames=WINDOW_FRAMES, hop_frames=HOP_FRAMES, rate_hz=RATE_HZ)
        for dataset, reader in READERS.items():
            windows.append(str(folder / "windows" / dataset))
            source = str(sample / "mocap" / dataset)
            made = prepare.run([source], reader=reader, out=windows[-1], config=config, max_bad_fraction=0)
            say(*made.lines())

    with stage("pretrain: hide 72 % of a pose sequence, ask for it back (Ray Train)"):
        pretrained = str(folder / "pretrained")
        with training_progress("pretrain") as progress:
            trained = pretrain.run("pretrain_demo", data=windows, out=pretrained, progress=progress)
        say(*trained.lines())

    with stage("evaluate: hidden cells of people it never saw"):
        reconstruction = evaluate.run(checkpoint=pretrained, data=windows, protocol="reconstruction")
        say(*reconstruction.lines())

    with stage("finetune: the same transformer learns to lift (Ray Train)"):
        lifter = str(folder / "lifter")
        with training_progress("finetune") as progress:
            tuned = finetune.run(
                "finetune_demo", init=pretrained, data=windows, out=lifter, progress=progress
            )
        say(*tuned.lines())

    with stage("evaluate: lifting of people it never saw"):
        lifting = evaluate.run(checkpoint=lifter, data=windows, protocol="lifting")
        say(*lifting.lines())

    with stage("lift: real OpenPose detections, four cameras"):
        poses = str(folder / "poses")
        detections = str(sample / "detections" / "pose2sim")
        lift_config = LiftConfig(checkpoint=lifter, rate_hz=60.0, width_px=1088, height_px=1920)
        say(*lift.run([detections], out=poses, config=lift_config, max_bad_fraction=0).lines())

    scores = {row.name: row.scores["MPJPE mm"] for row in lifting.rows}
    with stage("view: 2D and 3D side by side"):
        page = folder / "page.html"
        about = [
            f"Lifted by the demo's model: {scores['lifted']:.0f} mm MPJPE on people it never saw; "
            f"the mean pose has {scores['mean training pose']:.0f} mm.",
            "2D: OpenPose on the Pose2Sim sample, (c) 2022 perfanalytics, BSD-3.",
        ]
        say(*view.run(poses, out=str(page), title="MPM on Ray: demo", about=about))

    gain = 1 - scores["lifted"] / scores["mean training pose"]
    minutes = (time.monotonic() - begun_s) / 60
    results = {
        "reconstruction": {row.name: row.scores for row in reconstruction.rows},
        "lifting": {row.name: row.scores for row in lifting.rows},
        "gain_over_mean_pose": gain,
        "minutes": minutes,
    }
    (folder / MARKER).write_text(json.dumps(results, indent=1))
    say(
        "",
        "On people the model never saw:",
        *reconstruction.lines(),
        "",
        *lifting.lines(),
        "",
        f"Lifting is {gain:.0%} below the mean pose (target {TARGET:.0%}), after {minutes:.1f} min in all.",
        f"Curves: {folder / 'pretrained' / 'curves.png'}, {folder / 'lifter' / 'curves.png'}",
        f"Open the page in a browser: {page.as_uri()}",
    )


def claim(folder: Path, *, overwrite: bool) -> Path:
    """An empty folder for the demo; an earlier demo is removed only when asked, anything else never."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / MARKER).is_file():
            raise InputError(f"{folder}: wanted an empty folder, it holds something else; give another --out")
        if not overwrite:
            raise InputError(f"{folder}: holds an earlier demo; give --overwrite to make it again")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("{}")
    return folder.resolve()


def _stages(say: Say) -> Callable[[str], AbstractContextManager[None]]:
    count = iter(range(1, STAGES + 1))

    @contextmanager
    def stage(what: str) -> Iterator[None]:
        begun_s = time.monotonic()
        say("", f"[{next(count)}/{STAGES}] {what}")
        yield
        say(f"      {time.monotonic() - begun_s:.1f} s")

    return stage
