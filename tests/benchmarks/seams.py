"""`make bench`: is there a seam where windows meet; what the mirror brings; how fast a stream is.

    python -m tests.benchmarks.seams [--checkpoint FOLDER]

Real tracks at the model's rate: the people of the Pose2Sim detections, and the takes of the bundled motion
capture through virtual cameras, clean and through the detector of the open protocol. A jump is the mean
length of the second (velocity) or third (acceleration) difference of the joints. Where it spans the place
where a window begins or ends it counts as at a boundary; the ratio is to those elsewhere. Every track is
lifted once for every place the windows can have: each frame is as often at a boundary as any other but
near the track's ends. `no windows` are the same frames of poses that are each the centre of a window of their
own: what the motion itself makes of the ratio.
"""

import argparse
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mpm_model.checkpoint import Checkpoint, load_checkpoint
from mpm_model.learning.batches import observe
from mpm_model.learning.counted import counted_uniform
from mpm_model.learning.detector_noise import detect
from mpm_model.lifter import MODES, Lifter, shipped_weights
from mpm_model.pose.metrics import MM_PER_M
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.resample import Clock, SampledTrack
from mpm_model.pose.skeletons import H36M_17
from mpm_model.pose.virtual_camera import DRAWS_PER_CAMERA, VirtualCameraConfig, draw_cameras
from mpm_model.pose.windows import window_starts
from mpm_model.streaming import StreamingLifter
from pipelines.detections.common_skeleton import to_h36m_17
from pipelines.protocols.open import NOISE
from pipelines.protocols.views import PROTOCOL_SEED, view_id
from pipelines.sources.held_out import is_held_out
from pipelines.sources.options import ReadOptions as TakeOptions
from pipelines.sources.recording import Recording
from pipelines.sources.registry import READERS, find_takes
from pipelines.text_table import text_table
from tests.benchmarks.real_video import MIN_CONFIDENCE, RATE_HZ, SAMPLE, SIZE_PX, View, read_views

TAKES = (("asf_amc", "cmu"), ("ui_prmd", "ui_prmd"))
CAMERAS = 2
MODEL_RATE_HZ = 25.0
KINDS = ("Pose2Sim", "mocap", "mocap, noisy")
"""Whose tracks."""
STREAMED_FRAMES = 500


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A person at the model's rate."""

    keypoints_px: Float[np.ndarray, "N 17 2"]
    confidence: Float[np.ndarray, "N 17"]
    width_px: int
    height_px: int
    joints_rel_m: Float[np.ndarray, "N 17 3"] | None = None
    """The truth, if anybody knows it."""
    is_held_out: bool = False
    """Whether the person was never trained on."""

    def lift(self, lifter: Lifter, *, first_frame: int = 0) -> Float[np.ndarray, "N 17 3"]:
        """Joints relative to the pelvis."""
        return lifter(
            self.keypoints_px,
            self.confidence,
            width_px=self.width_px,
            height_px=self.height_px,
            first_frame=first_frame,
        )


@dataclass
class Jumps:
    """Sums of lengths of differences, at boundaries and elsewhere."""

    at: float = 0.0
    elsewhere: float = 0.0
    count_at: int = 0
    count_elsewhere: int = 0

    @property
    def ratio(self) -> float:
        """How much larger they are at boundaries."""
        return (self.at / self.count_at) / (self.elsewhere / self.count_elsewhere)

    def add(self, joints_m: Float[np.ndarray, "N 17 3"], edges: Int[np.ndarray, "E"], *, order: int) -> None:
        """Count a track whose windows begin or end between frames e - 1 and e."""
        jumps = np.linalg.norm(np.diff(joints_m, n=order, axis=0), axis=-1).mean(-1)
        first = np.arange(len(jumps))[:, None]
        is_at: Bool[np.ndarray, "N"] = ((first < edges) & (edges <= first + order)).any(1)
        self.at += float(jumps[is_at].sum())
        self.elsewhere += float(jumps[~is_at].sum())
        self.count_at += int(is_at.sum())
        self.count_elsewhere += int((~is_at).sum())


def describe(checkpoint: Checkpoint | None = None) -> str:
    """Seams, the mirror, rounding and streaming, of the weights that ship or of others; on one core."""
    checkpoint = checkpoint or load_checkpoint(shipped_weights())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return "\n".join(
            [*_seams(checkpoint), *_modes(checkpoint), _rounding(checkpoint), _streaming(checkpoint)]
        )
    finally:
        torch.set_num_threads(threads)


def _seams(checkpoint: Checkpoint) -> list[str]:
    fast, exact = Lifter(checkpoint), Lifter(checkpoint, mode="exact")
    length = fast.window_frames
    hop_frames = length - fast.overlap_frames
    rows = []
    for kind in KINDS:
        blended, alone = (Jumps(), Jumps()), (Jumps(), Jumps())
        apart_mm = []
        for person in people(kind):
            frames = len(person.keypoints_px)
            if frames <= length:
                continue
            centred_m = person.lift(exact)
            is_whole = slice(length // 2, frames - length // 2)  # here no centred window sees a still frame
            for first_frame in range(hop_frames):
                starts = window_starts(
                    frames, window_frames=length, hop_frames=hop_frames, first_frame=first_frame
                )
                starts = starts - first_frame
                edges = np.unique([starts, starts + length])
                edges = edges[(edges > 0) & (edges < frames)]
                fast_m = person.lift(fast, first_frame=first_frame)
                for order, ours, theirs in zip((2, 3), blended, alone, strict=True):
                    ours.add(fast_m, edges, order=order)
                    theirs.add(centred_m, edges, order=order)
                apart_mm.append(MM_PER_M * np.linalg.norm(fast_m - centred_m, axis=-1)[is_whole])
        every_mm = np.concatenate(apart_mm)
        ratios = [f"{jumps.ratio:.3f}" for pair in zip(blended, alone, strict=True) for jumps in pair]
        rows.append([kind, *ratios, f"{every_mm.mean():.2f}", f"{every_mm.max():.0f}"])
    header = ["", "velocity", "no windows", "acceleration", "no windows", "to centred mm", "worst mm"]
    return [
        f"seams of fast: windows of {length} frames that share {fast.overlap_frames} (cost "
        f"{length / hop_frames:.2f}), jumps at boundaries over those elsewhere:",
        *text_table(header, rows),
    ]


def _modes(checkpoint: Checkpoint) -> list[str]:
    rows = []
    for mode in MODES:
        for is_mirrored in (False, True):
            lifter = Lifter(checkpoint, mode=mode, is_mirrored=is_mirrored)
            cells = []
            for kind in KINDS:
                errors_mm = [
                    MM_PER_M * np.linalg.norm(person.lift(lifter) - person.joints_rel_m, axis=-1).mean()
                    for person in people(kind)
                    if person.is_held_out and person.joints_rel_m is not None
                ]
                cells += [f"{np.mean(errors_mm):.1f}"] if errors_mm else []
            rows.append([mode + ", mirrored" * is_mirrored, *cells])
    return [
        "modes and the mirror, MPJPE mm on the sample's held-out people:",
        *text_table(["", *KINDS[1:]], rows),
    ]


def _rounding(checkpoint: Checkpoint) -> str:
    """What the number of windows in a batch does to a pose."""
    worst_mm = 0.0
    for mode in MODES:
        alone, together = (Lifter(checkpoint, mode=mode, batch_windows=windows) for windows in (1, 16))
        for person in people("mocap")[:4]:
            worst_mm = max(
                worst_mm, MM_PER_M * float(np.abs(person.lift(alone) - person.lift(together)).max())
            )
    return f"windows lifted one by one against 16 together: {worst_mm:.1e} mm at worst"


def _streaming(checkpoint: Checkpoint) -> str:
    lifter = Lifter(checkpoint, mode="causal")
    track_px = np.concatenate([person.keypoints_px for person in people("mocap")])[:STREAMED_FRAMES]
    speeds = []
    for rate_hz in (lifter.rate_hz, RATE_HZ):
        stream = StreamingLifter(lifter, rate_hz=rate_hz, width_px=SIZE_PX[0], height_px=SIZE_PX[1])
        begun_s = time.perf_counter()
        for keypoints_px in track_px:
            stream.push(keypoints_px)
        speeds.append(f"{len(track_px) / (time.perf_counter() - begun_s):,.0f} frames/s at {rate_hz:g} Hz")
    return f"streaming, frame by frame, one core: {', '.join(speeds)}"


@cache
def people(kind: str) -> tuple[Shown, ...]:
    """Everybody of one of `KINDS`."""
    if kind == "Pose2Sim":
        return tuple(_at_model_rate(view) for view in read_views())
    takes = (
        READERS[reader].read(url, rate_hz=MODEL_RATE_HZ, options=TakeOptions(dataset=dataset))
        for reader, dataset in TAKES
        for url in find_takes(READERS[reader], str(SAMPLE / "mocap" / dataset))
    )
    return tuple(
        _filmed(take, camera, is_noisy=kind == "mocap, noisy") for take in takes for camera in range(CAMERAS)
    )


def _at_model_rate(view: View) -> Shown:
    track = to_h36m_17(view.track)
    at = track.frames - track.frames[0]
    keypoints_px, confidence = (
        np.zeros((at[-1] + 1, 17, 2), np.float32),
        np.zeros((at[-1] + 1, 17), np.float32),
    )
    keypoints_px[at], confidence[at] = track.keypoints_px, track.confidence
    sampled = SampledTrack(
        keypoints_px=keypoints_px,
        confidence=confidence,
        min_confidence=MIN_CONFIDENCE,
        first_frame=0,
        clock=Clock(rate_hz=RATE_HZ, model_rate_hz=MODEL_RATE_HZ),
    )
    model_frames = np.array(sampled.model_frames)[:-1]
    (model_px,), (model_confidence,), (is_hidden,) = sampled.sample(sampled.rows_of(model_frames)[None])
    return Shown(
        keypoints_px=model_px.numpy(),
        confidence=model_confidence.masked_fill(is_hidden, 0.0).numpy(),
        width_px=SIZE_PX[0],
        height_px=SIZE_PX[1],
    )


def _filmed(take: Recording, camera: int, *, is_noisy: bool) -> Shown:
    counted = {"seed": PROTOCOL_SEED, "epoch": camera, "sample_ids": view_id(f"{take.dataset}/{take.name}")}
    world_m, is_valid = torch.from_numpy(take.joints_world_m)[None], torch.from_numpy(take.is_valid)[None]
    drawn = torch.from_numpy(counted_uniform("bench/seams", count=DRAWS_PER_CAMERA, **counted)).float()
    filmed_by = draw_cameras(drawn, world_m, is_valid, VirtualCameraConfig())
    keypoints_px, joints_cam_m, is_hidden = observe(world_m, is_valid, filmed_by)
    confidence = torch.ones(is_hidden.shape)
    if is_noisy:
        keypoints_px, confidence, is_hidden = detect(
            keypoints_px, is_hidden, rate_hz=MODEL_RATE_HZ, skeleton=H36M_17, config=NOISE, **counted
        )
    return Shown(
        keypoints_px=keypoints_px[0].numpy(),
        confidence=confidence.masked_fill(is_hidden, 0.0)[0].numpy(),
        width_px=int(filmed_by.width_px[0]),
        height_px=int(filmed_by.height_px[0]),
        joints_rel_m=root_relative(joints_cam_m[0].numpy(), H36M_17)[0],
        is_held_out=is_held_out(take.dataset, take.subject),
    )


def main() -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", help="folder of a lifting checkpoint; default: the weights that ship")
    given = parser.parse_args()
    print(describe(load_checkpoint(Path(given.checkpoint)) if given.checkpoint else None))


if __name__ == "__main__":
    main()
