"""`make weights`: the weights that ship, made again from the raw archives by this repository's own verbs.

    python -m pipelines.weights ARCHIVES [--work FOLDER] [--out FOLDER]

Trains on CMU, UI-PRMD and ReActIdle without the held-out people; HDM05 is only measured on, for its
share-alike licence. A run that was killed goes on.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpm_model.errors import InputError
from pipelines.open_data import OpenData, build

WINDOW_FRAMES, HOP_FRAMES, RATE_HZ = 27, 3, 25.0
NETWORK = (
    "network.frames=27",
    "network.width=128",
    "network.feed_forward=256",
    "network.frame_hidden=256",
)
"""The size that ships: what two cores can train well in an hour."""
TRAINING = (
    "batch_windows=64",
    "optimiser.learning_rate=1.0e-3",
    "scale.workers=2",
    "scale.cpus_per_worker=1",
)
LICENCES = {
    "cmu": "CMU Graphics Lab Motion Capture Database, free to use and to include in products. The data used "
    "in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF "
    "EIA-0196217.",
    "ui_prmd": "UI-PRMD, Open Data Commons Public Domain Dedication and License 1.0",
    "reactidle": "ReActIdle, MIT",
}
FAILS = (
    "Learnt from 12 people of CMU, 8 of UI-PRMD and 14 of ReActIdle, adults, mostly upright. The scores of "
    "HDM05 beside those of UI-PRMD say how much other motion costs.",
    "It sees 1.1 s at 25 Hz: what is hidden for longer is guessed from the rest of the body.",
    "Noise of detectors is imitated from two detectors on one scene; `mpm fit-noise` and a training of one's "
    "own serve other detectors better.",
    "Positions are relative to the pelvis, in metres as of an adult: a child comes out too large; a "
    "path before the camera takes its intrinsics, and a stated height for other sizes.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare, pre-train, fine-tune, measure, write the folder that ships, and calibrate it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("archives", type=Path, help="folder with cmu.tar.xz, ui_prmd.tar.xz, ...")
    parser.add_argument("--work", type=Path, default=Path("weights_work"))
    parser.add_argument("--out", type=Path, default=Path("mpm_model/weights"))
    parser.add_argument("--pretrain-epochs", type=int, default=2)
    parser.add_argument("--finetune-epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="one core each")
    given = parser.parse_args(arguments)
    training = (*TRAINING, f"scale.workers={given.workers}")
    from pipelines import finetune, pretrain
    from pipelines.console import training_progress

    try:
        data = build(
            given.archives,
            given.work,
            window_frames=WINDOW_FRAMES,
            hop_frames=HOP_FRAMES,
            rate_hz=RATE_HZ,
            say=lambda _: None,
        )
    except InputError as error:
        parser.error(str(error))
    pretrained, tuned = str(given.work / "pretrained"), str(given.work / "unified")
    with training_progress("pretrain") as progress:
        pretrain.run(
            "pretrain_unified",
            data=data.train,
            out=pretrained,
            overrides=[*NETWORK, *training, f"epochs={given.pretrain_epochs}"],
            progress=progress,
        )
    with training_progress("finetune") as progress:
        finetune.run(
            "finetune_unified",
            init=pretrained,
            data=data.train,
            out=tuned,
            overrides=[*training, f"epochs={given.finetune_epochs}"],
            progress=progress,
        )
    publish(Path(tuned), given.out, data=data, pretrained=Path(pretrained), workers=given.workers)


def publish(tuned: Path, out: Path, *, data: OpenData, pretrained: Path, workers: int) -> None:
    """Round the weights to half precision, measure them as users will use them, write the card, calibrate."""
    import dataclasses

    from mpm_model.checkpoint import ERROR_BANDS_FILE, load_checkpoint, save_checkpoint
    from mpm_model.lifter import Lifter
    from mpm_model.network.cost import macs_per_frame
    from pipelines import calibrate

    checkpoint = load_checkpoint(tuned)
    minutes = sum(training_minutes(run) for run in (pretrained, tuned))
    with tempfile.TemporaryDirectory() as name:
        half = Path(name) / "half"
        save_checkpoint(half, checkpoint, is_half=True)
        rounded = load_checkpoint(half)
        config: Any = rounded.model.config
        card = {
            "what": "Lifts 2D keypoints to 3D and completes partial 3D; Human3.6M's 17 joints, camera axes",
            "data": LICENCES,
            "held_out": "CMU 02 05 16 49, UI-PRMD s03 s07, all of HDM05",
            "scores": measure(Lifter(rounded), data.test),
            "macs_per_frame": macs_per_frame(
                rounded.model,
                frames=config.frames,
                joints=config.joints,
                channels=config.keypoint_channels,
                head="sequence",
            ),
            "budget": f"{minutes:.0f} minutes of training, {workers} CPU core(s), float32; stored as float16",
            "fails": FAILS,
            **without_places(checkpoint.card),
            "pretraining": without_places(load_checkpoint(pretrained).card),
        }
        shutil.rmtree(half)
        save_checkpoint(half, dataclasses.replace(rounded, card=card), is_half=True)
        out.mkdir(parents=True, exist_ok=True)
        (out / ERROR_BANDS_FILE).unlink(missing_ok=True)  # of other weights
        for file in half.iterdir():
            shutil.copyfile(file, out / file.name)
    calibrate.run(str(out), data=data.train, held_out=data.test)


def training_minutes(run: Path) -> float:
    """How long the steps of a run took, also of one that was killed and went on."""
    rows = json.loads((run / "metrics.json").read_text())
    batch_windows = json.loads((run / "run.json").read_text())["config"]["batch_windows"]
    steps = [0, *(row["step"] for row in rows)]
    seconds: list[float] = [
        (after - before) * batch_windows / row["windows_per_s"]
        for before, after, row in zip(steps, steps[1:], rows, strict=False)
    ]
    return sum(seconds) / 60


def without_places(card: dict[str, Any]) -> dict[str, Any]:
    """A card that names data sets and runs, not where they lay when it was made."""
    run = card["run"]
    data = [Path(url).name for url in run["data"]]
    return {**card, "run": {**run, "data": data, "init": run["init"] and Path(run["init"]).name}}


def measure(lifter: Any, test: Sequence[str]) -> dict[str, Any]:
    """The open protocol's figures, for the card."""
    from pipelines.protocols import open as protocol
    from pipelines.windows_table import read_all_windows

    windows = read_all_windows(test, splits=("test",))
    protocol.check(windows)
    scores: dict[str, Any] = {
        "protocol": f"open/{protocol.VERSION}, root-relative, no test-time flip",
        "data_sha256": protocol.data_hash(windows),
    }
    for keypoints in protocol.KEYPOINTS:
        measured = protocol.score(
            protocol.lifter_predicts(lifter), protocol.open_views(windows, keypoints=keypoints)
        )
        scores[keypoints] = {
            dataset: {"mpjpe_mm": round(each.mpjpe_mm, 1), "p_mpjpe_mm": round(each.p_mpjpe_mm, 1)}
            for dataset, each in sorted(measured.items())
        }
    return scores


if __name__ == "__main__":
    main()
