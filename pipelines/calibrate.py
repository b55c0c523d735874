"""The verb `calibrate`: how far the joints that a checkpoint lifts may be from their true places.

The bands are fitted on people that may be trained on, also in postures nobody recorded (see
`calibration_views.ALTERED`), and measured on people that nobody trains on.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from mpm_model.checkpoint import ERROR_BANDS_FILE, TENSORS_FILE, load_checkpoint
from mpm_model.error_bands import QUANTILES, ErrorBands, to_json
from mpm_model.errors import InputError
from mpm_model.learning.error_quantiles import LiftedTrack, fit_error_bands
from mpm_model.lifter import LIFTING_ARCHITECTURES, Lifter
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.skeletons import H36M_17
from pipelines import storage, storage_folders
from pipelines.calibration_views import ALTERED_SHARE, NOISY_SHARE, Seen, draw_views, hide, through_detector
from pipelines.protocols.hidden import dropped_frames, hidden_limbs, three_random_joints
from pipelines.protocols.views import PROTOCOL_SEED, held_out_views
from pipelines.schema import made_by
from pipelines.text_table import count, percent, text_table
from pipelines.windows_table import Windows, read_windows

FITTED_SPLITS = ("train", "validation")
FRAMES_PER_TABLE = 60_000
"""Frames that are lifted of each table; more changed nothing."""
LEAST_PEOPLE = 3
"""Of fewer people nobody can tell how errors differ between people."""
STRANGERS_ERR_MORE = (1.04, 1.17)
"""How many times as long the radii must be on people the network has not learnt from.

Measured once, with a network of the shipped sizes that was trained for half as long and had not learnt from
13 of the 35 people of CMU, UI-PRMD and ReActIdle: of bands fitted on the others, so widened, the radii held
50 % and 90 % of its errors on the 13, each data set counted alike. The held-out people had no part in it. 13
people tell it to a tenth or so.
"""
EVERY_VIEWS = 5
"""Every so many views of held-out recordings are measured on. Odd, to meet all cameras."""
JOINTS = ("observed", "inpainted")
"""Joints apart by whether the detector saw them."""


@dataclass(frozen=True, order=True)
class Kind:
    """What shares are counted apart by."""

    dataset: str
    keypoints: str
    """`clean` or `noisy`, as in the open protocol."""
    joints: str
    """One of `JOINTS`."""


@dataclass
class Held:
    """Joints, and how many of them lay within each radius."""

    joints: int = 0
    within_50: int = 0
    within_90: int = 0

    def add(self, other: "Held") -> None:
        """Count those of another, too."""
        self.joints += other.joints
        self.within_50 += other.within_50
        self.within_90 += other.within_90

    @property
    def shares(self) -> tuple[float, float]:
        """NaN of nothing."""
        whole = self.joints or float("nan")
        return self.within_50 / whole, self.within_90 / whole


Coverage = dict[Kind, Held]
"""What bands held, by kind."""


def run(
    checkpoint: str, *, data: Sequence[str], held_out: Sequence[str] | None = None, seed: int = 0
) -> list[str]:
    """Calibrate a checkpoint folder or URL on windows, write `error_bands.json` into it, and say how it went.

    What is held is measured on the people of the split test in the tables `held_out` (default: `data`), if
    there are any. A file that was there before is replaced. The same data and seed give the same bands.

    Raises:
        InputError: no checkpoint, one that does not lift Human3.6M's 17 joints, or windows of too few people.
    """
    url = storage.absolute(checkpoint)
    bands_url = storage.join(url, ERROR_BANDS_FILE)
    with storage_folders.fetch_folder(url) as folder:
        # Bands of before may be of other weights, and are not looked at.
        loaded = load_checkpoint(
            folder,
            expect_architecture=LIFTING_ARCHITECTURES,
            expect_skeleton=H36M_17,
            with_error_bands=False,
        )
        weights = (folder / TENSORS_FILE).read_bytes()
    storage.check_writable(url)
    lifter = Lifter(loaded)
    bands = fit(lifter, data, seed=seed)
    held = coverage(lifter, bands, data if held_out is None else held_out)
    bands = dataclasses.replace(bands, coverage={what: each.shares for what, each in summary(held).items()})
    storage.write_once(bands_url, to_json(bands, weights=weights))
    return [f"{bands_url}: {bands.fitted_on}", *coverage_lines(held)]


def fit(lifter: Lifter, data: Sequence[str], *, seed: int) -> ErrorBands:
    """Bands of a lifter on the people of these tables that may be trained on; each table counts alike."""
    seen: list[Seen] = []
    groups: list[str] = []
    for url in data:
        windows = read_windows(storage.absolute(url), splits=FITTED_SPLITS)
        views = list(draw_views(windows, seed=seed, most_frames=FRAMES_PER_TABLE)) if len(windows) else []
        seen += views
        groups += [url] * len(views)
    people = {(each.dataset, each.person) for each in seen}
    if len(people) < LEAST_PEOPLE:
        raise InputError(
            f"{', '.join(data)}: wanted windows of at least {LEAST_PEOPLE} people of the splits "
            f"{' and '.join(FITTED_SPLITS)}, got {count(len(people), 'person')}; give more recordings"
        )
    tracks = [_lift(each, lifter, group=group) for each, group in zip(seen, groups, strict=True)]
    rates = ", ".join(f"{rate:g}" for rate in sorted({each.rate_hz for each in seen}))
    datasets = ", ".join(sorted({each.dataset for each in seen}))
    return fit_error_bands(
        tracks,
        skeleton=H36M_17,
        seed=seed,
        people=len(people),
        widening=STRANGERS_ERR_MORE,
        fitted_on=(
            f"{count(len(people), 'person')} of {datasets} that may be trained on, at {rates} Hz, through "
            "virtual cameras: "
            f"{percent(NOISY_SHARE, digits=0)} as a detector sees them, "
            f"{percent(ALTERED_SHARE, digits=0)} in postures nobody recorded, joints and frames hidden as in "
            f"training; widened {' and '.join(f'{more:g}' for more in STRANGERS_ERR_MORE)} times for "
            f"strangers; seed {seed}; {made_by('mpm calibrate')}"
        ),
    )


def coverage(
    lifter: Lifter, bands: ErrorBands, data: Sequence[str], *, every_views: int = EVERY_VIEWS
) -> Coverage:
    """What bands hold on the people of the split test, through the open protocol's cameras.

    Each view is given clean and noisy, whole and with keypoints hidden: of one view a limb, of the next three
    joints, of the next frames, half a second at a time. There may be no such people.
    """
    held: Coverage = {}
    for url in data:
        windows = read_windows(storage.absolute(url), splits=("test",))
        if not len(windows):
            continue
        for keypoints, each in _held_out(windows, every_views):
            track = _lift(each, lifter, group=each.dataset)
            for joints, is_of in zip(JOINTS, (~track.is_hidden, track.is_hidden), strict=True):
                kind = Kind(each.dataset, keypoints, joints)
                held.setdefault(kind, Held()).add(_within(bands, track, is_of))
    return {kind: each for kind, each in sorted(held.items()) if each.joints}


def summary(held: Coverage) -> dict[str, Held]:
    """Coverage over all joints together, over observed and inpainted ones, and over every kind."""
    sums: dict[str, Held] = {}
    for kind, each in held.items():
        for what in ("held-out people", f"held-out people, {kind.joints}"):
            sums.setdefault(what, Held()).add(each)
    return {
        **sums,
        **{f"{kind.dataset}, {kind.keypoints}, {kind.joints}": each for kind, each in held.items()},
    }


def coverage_lines(held: Coverage) -> list[str]:
    """Coverage as lines of text."""
    if not held:
        return ["what the bands hold is not measured: there are no people of the split test"]
    stated = [percent(quantile, digits=0) for quantile in QUANTILES]
    rows = [
        [what, f"{each.joints:,}", *(percent(share) for share in each.shares)]
        for what, each in summary(held).items()
    ]
    return text_table(["true joints within the radius stated for", "joints", *stated], rows)


def _held_out(windows: Windows, every_views: int) -> Iterator[tuple[str, Seen]]:
    skeleton, rate_hz = windows.skeleton, windows.rate_hz
    limbs = list(hidden_limbs(skeleton))
    for number, (name, camera, view) in enumerate(held_out_views(windows)):
        if number % every_views:
            continue
        shape = view.is_valid.shape
        taken = number // every_views
        *_, (_, is_dropped) = dropped_frames(name, camera, frames=shape[0], rate_hz=rate_hz)
        is_hidden = (
            limbs[taken // 3 % len(limbs)][1],
            three_random_joints(name, camera, skeleton),
            is_dropped[:, None],
        )[taken % 3]
        noisy = through_detector(view, name, rate_hz=rate_hz, seed=PROTOCOL_SEED, number=camera)
        for keypoints, whole in (("clean", view), ("noisy", noisy)):
            for given in (whole, hide(whole, np.broadcast_to(is_hidden, shape))):
                yield keypoints, Seen(name.partition("/")[0], "", given, rate_hz)


def _lift(seen: Seen, lifter: Lifter, *, group: str) -> LiftedTrack:
    view = seen.view
    lifted = lifter(
        view.keypoints_px,
        view.confidence,
        rate_hz=seen.rate_hz,
        width_px=view.width_px,
        height_px=view.height_px,
    )
    return LiftedTrack(
        joints_rel_m=lifted,
        true_rel_m=root_relative(view.joints_cam_m, H36M_17)[0],
        is_valid=view.is_valid,
        keypoints_px=view.keypoints_px,
        confidence=view.confidence,
        is_hidden=view.confidence < lifter.min_confidence,
        rate_hz=seen.rate_hz,
        group=group,
    )


def _within(bands: ErrorBands, track: LiftedTrack, is_of: Bool[np.ndarray, "N J"]) -> Held:
    radii_mm = bands.of(
        track.joints_rel_m, track.keypoints_px, track.confidence, track.is_hidden, rate_hz=track.rate_hz
    )
    is_counted = is_of & track.is_valid
    is_counted[:, 0] = False  # the root is where it is
    error_mm = track.error_mm[is_counted]
    return Held(len(error_mm), *(int((error_mm <= radius[is_counted]).sum()) for radius in radii_mm))
