"""Real video: one camera lifted alone, against what four cameras see together.

    python -m tests.benchmarks.real_video [--checkpoint FOLDER]

Each camera of the Pose2Sim sample (real OpenPose detections, 100 frames at 60 Hz) is lifted by itself, at the
video's rate, and compared with the multi-view result that comes with the sample; beside it stands MediaPipe's
own 3D ("world landmarks") on the video of camera 1. Nothing is smoothed here. Every frame's pose is turned,
scaled and shifted onto the truth (P-MPJPE), once with the 12 joints of the limbs, which all three name alike,
and once with all 17, where pelvis, spine and thorax are made of hips and shoulders and MediaPipe's top of the
head is extrapolated from its ears.

What to know when reading the figures:

- The truth was triangulated from these very detections and low-pass filtered (little is left above 8 Hz). Its
  points are OpenPose's; those of MediaPipe, and of a model trained on motion capture, lie elsewhere by some
  centimetres, most of all at the hips. It is one person and 1.7 s: it ranks nothing by a millimetre.
- The person is the one nearest to the truth as the camera sees it; a second one stands in two of the videos.
- Whether truth and detections belong together, and at the same frame, is measured and printed: see `View`.
- MediaPipe followed its person through the video, and so may have smoothed by a filter of its own.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mpm_model.lifter import Lifter, shipped_weights
from mpm_model.pose.camera import Camera, project, world_to_camera
from mpm_model.pose.metrics import p_mpjpe_mm
from mpm_model.pose.skeletons import BLAZEPOSE_33, H36M_17, TO_H36M_17
from pipelines import storage
from pipelines.detections.common_skeleton import to_h36m_17
from pipelines.detections.json_file import read_json
from pipelines.detections.registry import ReadOptions, find_sources, read_source
from pipelines.detections.track import Track
from pipelines.lift_track import lift_track
from pipelines.sources.options import ReadOptions as TakeOptions
from pipelines.sources.trc import read_trc
from pipelines.text_table import text_table

SAMPLE = Path(str(resources.files("pipelines") / "sample"))
TRUTH = SAMPLE / "multi_view" / "pose2sim"
RATE_HZ = 60.0
SIZE_PX = (1088, 1920)
LIMBS = H36M_17.select(
    *(
        f"{side}_{part}"
        for side in ("left", "right")
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    )
)
ALL = np.arange(len(H36M_17))
OFFSETS_FRAMES = range(-4, 5)
MILLIMETRE_M = 0.001
QUALISYS_PX = 1 / 64
MIN_CONFIDENCE = 0.1


@dataclass(frozen=True)
class Truth:
    """The multi-view result; row i is frame i of the videos."""

    joints_world_m: Float[np.ndarray, "T 17 3"]
    """In the cameras' world, z up."""
    is_valid: Bool[np.ndarray, "T 17"]


@dataclass(frozen=True, kw_only=True)
class View:
    """One camera: the person that is compared, and whether detections and truth belong together."""

    name: str
    track: Track
    """The person nearest to the truth; the detector's own skeleton."""
    people: int
    """How many the video shows."""
    error_px: float
    """Median distance of the person's limbs from the truth as the camera sees it."""
    other_px: float
    """The same of the next nearest person; NaN if there is none."""
    offset_frames: int
    """How many frames the video is late by, as it fits best with each joint's steady shift taken out."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    frames: int
    limbs_mm: float
    """P-MPJPE of the 12 joints of the limbs."""
    all_mm: float
    """P-MPJPE of all 17 joints."""


def compare(lifter: Lifter, *, mean_pose_rel_m: Float[np.ndarray, "17 3"] | None = None) -> list[Row]:
    """Each camera, the four together, MediaPipe on camera 1 and, if given, the mean training pose.

    The mean training pose is the same in every frame, turned onto the truth like the others.
    """
    truth = read_truth()
    rows = []
    for view in read_views():
        lifted = lift_track(view.track, lifter)
        rows.append(score(view.name, lifted.joints_rel_m, lifted.frames, truth))
    frames = sum(row.frames for row in rows)
    rows.append(
        Row(
            "four cameras",
            frames,
            sum(row.limbs_mm * row.frames for row in rows) / frames,
            sum(row.all_mm * row.frames for row in rows) / frames,
        )
    )
    rows.append(score("MediaPipe, cam01", *read_world_landmarks(), truth))
    if mean_pose_rel_m is not None:
        still_m = np.broadcast_to(mean_pose_rel_m, truth.joints_world_m.shape)
        rows.append(score("mean training pose", still_m, np.arange(len(still_m)), truth))
    return rows


def score(
    name: str, joints_m: Float[np.ndarray, "N 17 3"], frames: Int[np.ndarray, "N"], truth: Truth
) -> Row:
    """P-MPJPE over the frames that the truth has too; any axes, any scale, but not mirrored."""
    is_known = (frames >= 0) & (frames < len(truth.joints_world_m))
    joints_m, frames = joints_m[is_known], frames[is_known]

    def error_mm(joints: Int[np.ndarray, "J"]) -> float:
        return p_mpjpe_mm(
            joints_m[:, joints], truth.joints_world_m[frames][:, joints], truth.is_valid[frames][:, joints]
        )

    return Row(name, len(frames), error_mm(LIMBS), error_mm(ALL))


@cache
def read_truth() -> Truth:
    """The multi-view result at the video's rate, turned about the vertical into the cameras' world.

    Pose2Sim writes the world's y, z, x as x, y, z of the file.
    """
    recording = read_trc(
        str(TRUTH / "Balancing_for_IK.trc.gz"), rate_hz=RATE_HZ, options=TakeOptions(dataset="pose2sim")
    )
    east, north, up = np.moveaxis(recording.joints_world_m.astype(np.float64), -1, 0)
    return Truth(np.stack([-north, east, up], axis=-1), recording.is_valid)


@cache
def read_views() -> tuple[View, ...]:
    """The four cameras, each with the person to compare."""
    options = ReadOptions(rate_hz=RATE_HZ, width_px=SIZE_PX[0], height_px=SIZE_PX[1])
    sources = find_sources(str(SAMPLE / "detections" / "pose2sim"), options)
    return tuple(
        choose_person(Path(source.name).name, read_source(source, options), camera, read_truth())
        for source, camera in zip(sources, read_cameras(), strict=True)
    )


def choose_person(name: str, tracks: Sequence[Track], camera: Camera, truth: Truth) -> View:
    """The person whose limbs lie nearest to the truth as the camera sees it."""
    joints_cam_m = world_to_camera(torch.from_numpy(truth.joints_world_m), camera)
    truth_px = project(joints_cam_m, camera).numpy()
    nearest, *others = sorted(
        ((_median_px(limbs_apart_px(track, truth_px)), track) for track in tracks), key=lambda pair: pair[0]
    )
    moving_px = {}
    for offset_frames in OFFSETS_FRAMES:
        apart_px = limbs_apart_px(nearest[1], truth_px, offset_frames=offset_frames)
        # Detector and triangulation differ by what stays, in camera 3 by 20 px; what moves tells the time.
        moving_px[offset_frames] = _median_px(apart_px - np.nanmedian(apart_px, axis=0))
    return View(
        name=name,
        track=nearest[1],
        people=len(tracks),
        error_px=nearest[0],
        other_px=others[0][0] if others else float("nan"),
        offset_frames=min(moving_px, key=lambda offset: moving_px[offset]),
    )


def limbs_apart_px(
    track: Track, truth_px: Float[np.ndarray, "T 17 2"], *, offset_frames: int = 0
) -> Float[np.ndarray, "N 12 2"]:
    """Limbs less the truth of `offset_frames` frames before, NaN where not seen.

    Of every offset the same frames of the truth: those that all offsets reach.
    """
    common = to_h36m_17(track)
    longest = max(OFFSETS_FRAMES)
    rows = np.arange(longest, len(truth_px) - longest)
    place = {int(frame): row for row, frame in enumerate(common.frames)}
    at = np.array([place.get(int(row) + offset_frames, -1) for row in rows])
    is_seen = (common.confidence[at][:, LIMBS] > MIN_CONFIDENCE) & (at >= 0)[:, None]
    apart_px = common.keypoints_px[at][:, LIMBS] - truth_px[rows][:, LIMBS]
    return np.where(is_seen[..., None], apart_px, np.nan)


def _median_px(apart_px: Float[np.ndarray, "N 12 2"]) -> float:
    return float(np.nanmedian(np.linalg.norm(apart_px, axis=-1)))


def read_cameras() -> list[Camera]:
    """The calibration, as Qualisys writes it.

    Positions are in millimetres, focal lengths and centres in 1/64 px. The rows of its rotation are the
    camera's axes, y up and z backwards.
    """
    text = storage.read_bytes(str(TRUTH / "Calib.qca.txt.gz")).decode("ascii")
    return [_read_camera(camera) for camera in ElementTree.fromstring(text).iter("camera")]


def _read_camera(camera: ElementTree.Element) -> Camera:
    transform, intrinsic = camera.find("transform"), camera.find("intrinsic")
    assert transform is not None
    assert intrinsic is not None

    def numbers(element: ElementTree.Element, *names: str) -> torch.Tensor:
        return torch.tensor([float(element.attrib[name]) for name in names], dtype=torch.float64)

    axes = torch.stack([numbers(transform, *(f"r{row}{column}" for column in "123")) for row in "123"])
    rotation = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)[:, None] * axes
    lens = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
    width_px, height_px = torch.tensor(SIZE_PX, dtype=torch.float64)
    return Camera(
        rotation=rotation,
        translation_m=-rotation @ (MILLIMETRE_M * numbers(transform, "x", "y", "z")),
        focal_px=QUALISYS_PX * numbers(intrinsic, "focalLengthU", "focalLengthV"),
        center_px=QUALISYS_PX * numbers(intrinsic, "centerPointU", "centerPointV"),
        distortion=numbers(intrinsic, *lens, "radialDistortion3"),
        width_px=width_px,
        height_px=height_px,
    )


def read_world_landmarks() -> tuple[Float[np.ndarray, "N 17 3"], Int[np.ndarray, "N"]]:
    """MediaPipe's own 3D on the video of camera 1: joints in metres about the hips, and their frames."""
    content = read_json(str(TRUTH / "cam01_mediapipe.json.gz"), wanted="MediaPipe Pose results")
    seen = [entry for entry in content["frames"] if entry["pose_world_landmarks"]]
    landmarks_m = np.array([entry["pose_world_landmarks"] for entry in seen])[..., :3]
    frames = np.array([entry["frame"] for entry in seen])
    return TO_H36M_17[BLAZEPOSE_33.name].points(landmarks_m), frames


def describe(rows: Sequence[Row]) -> list[str]:
    """The check and the table, as lines."""
    views = [
        [
            view.name,
            str(view.people),
            f"{view.error_px:.1f}",
            "-" if view.people == 1 else f"{view.other_px:.1f}",
            f"{view.offset_frames:+d}",
        ]
        for view in read_views()
    ]
    table = [[row.name, str(row.frames), f"{row.limbs_mm:.1f}", f"{row.all_mm:.1f}"] for row in rows]
    return [
        "Do truth and detections belong together? Truth as each camera sees it, median over limbs:",
        *text_table(["camera", "people", "chosen px", "next px", "best offset, frames"], views),
        "Lifted from one camera against four cameras together, P-MPJPE:",
        *text_table(["", "frames", "12 limbs mm", "17 joints mm"], table),
    ]


def main() -> None:
    """Load, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", help="folder of a lifting checkpoint; default: the weights that ship")
    given = parser.parse_args()
    folder = Path(given.checkpoint) if given.checkpoint else shipped_weights()
    lifter = Lifter.load(folder, expect_skeleton=H36M_17)
    mean_pose_m = json.loads((folder / "card.json").read_text()).get("mean_training_pose_rel_m")
    rows = compare(lifter, mean_pose_rel_m=None if mean_pose_m is None else np.array(mean_pose_m))
    print("\n".join(describe(rows)))


if __name__ == "__main__":
    main()
