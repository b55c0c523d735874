"""`prepare` with a made-up reader; the real readers have their own tests, the whole path has the demo's."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines import prepare
from pipelines.manifest import MANIFEST
from pipelines.prepare import PrepareConfig, choose_split, cut_windows
from pipelines.sources.options import ReadOptions
from pipelines.sources.recording import Recording
from pipelines.sources.registry import Reader
from pipelines.storage import StorageError, read_bytes
from pipelines.windows_table import read_windows

CONFIG = PrepareConfig(window_frames=10, hop_frames=5)


def make_recording(
    frames: int = 30, *, subject: str = "07", name: str = "07_01", dataset: str = "cmu"
) -> Recording:
    joints_world_m = np.zeros((frames, 17, 3), dtype=np.float32)
    joints_world_m[:] = np.arange(frames, dtype=np.float32)[:, None, None]  # every joint tells its frame
    return Recording(
        joints_world_m=joints_world_m,
        is_valid=np.ones((frames, 17), dtype=bool),
        skeleton=H36M_17,
        rate_hz=50.0,
        dataset=dataset,
        subject=subject,
        action="to walk",
        name=name,
        source=f"{name}.take",
        notes=(f"the head was turned by {frames} degrees", "a rate of 120 Hz was taken"),
    )


def read_take(url: str, *, rate_hz: float, options: ReadOptions) -> Recording:
    """A take is named subject_number.take and says how many frames it has."""
    content = read_bytes(url).decode()
    if not content.isdigit():
        raise InputError(f"{url}: wanted a number of frames, got {content!r}")
    name = url.rsplit("/", 1)[-1].removesuffix(".take")
    return make_recording(
        int(content), subject=name.split("_")[0], name=name, dataset=options.dataset or "cmu"
    )


@pytest.fixture(autouse=True)
def made_up_reader(monkeypatch):
    monkeypatch.setattr(
        prepare, "READERS", {"takes": Reader(name="takes", suffixes=(".take",), read=read_take)}
    )


@pytest.fixture
def write_takes(tmp_path) -> Callable[[Mapping[str, str]], str]:
    def write(takes: Mapping[str, str]) -> str:
        (tmp_path / "takes").mkdir(exist_ok=True)
        for name, content in takes.items():
            (tmp_path / "takes" / f"{name}.take").write_text(content)
        return str(tmp_path / "takes")

    return write


def run(source: str, out: Path, *, config: PrepareConfig = CONFIG, max_bad_fraction: float = 0.5):
    return prepare.run(
        [source], reader="takes", out=str(out), config=config, max_bad_fraction=max_bad_fraction
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_windows_hold_the_frames_they_say():
    windows, dropped = cut_windows(make_recording(27), split="train", config=CONFIG)
    assert windows.start_frame.tolist() == [0, 5, 10, 15, 17], "the last one ends with the recording"
    assert windows.joints_world_m[3, :, 16, 2].tolist() == list(range(15, 25))
    assert len(set(windows.ids.tolist())) == 5
    assert dropped == {}


def test_a_recording_shorter_than_a_window_is_dropped_with_its_reason():
    windows, dropped = cut_windows(make_recording(9), split="train", config=CONFIG)
    assert len(windows) == 0
    assert windows.joints_world_m.shape == (0, 10, 17, 3)
    assert dropped == {"too_short": 1}


def test_a_short_recording_may_become_one_window_whose_end_is_not_valid():
    config = replace(CONFIG, shortest_frames=7)
    recording = make_recording(8)
    windows, dropped = cut_windows(recording, split="train", config=config)
    assert not dropped
    assert windows.joints_world_m.shape[:2] == (1, CONFIG.window_frames)
    np.testing.assert_array_equal(windows.joints_world_m[0, :8], recording.joints_world_m)
    np.testing.assert_array_equal(windows.is_valid[0, :8], recording.is_valid)
    assert not windows.is_valid[0, 8:].any()
    assert cut_windows(make_recording(6), split="train", config=config)[1] == {"too_short": 1}


def test_a_recording_of_one_window_is_one_window():
    assert len(cut_windows(make_recording(10), split="train", config=CONFIG)[0]) == 1


def test_windows_without_pelvis_or_with_too_few_joints_are_dropped_by_reason():
    recording = make_recording(40)
    recording.is_valid[3, H36M_17.index("pelvis")] = False  # in the window at 0
    recording.is_valid[30:40, :4] = False  # 4 of 17 joints, in all of the window at 30 and half of that at 25
    recording.is_valid[30:40, 0] = True
    recording.is_valid[30:40, 4] = False
    windows, dropped = cut_windows(recording, split="train", config=CONFIG)
    assert windows.start_frame.tolist() == [5, 10, 15, 20, 25]
    assert dropped == {"no_pelvis": 1, "not_enough_valid": 1}
    assert (~windows.is_valid).sum() == 5 * 4, "invalid joints of kept windows stay marked"


def test_held_out_people_are_for_testing_and_others_are_split_by_recording():
    assert choose_split(make_recording(subject="16"), validation_fraction=0.9) == "test"
    assert choose_split(make_recording(dataset="hdm05"), validation_fraction=0.0) == "test"
    names = [f"07_{number}" for number in range(2000)]
    splits = [choose_split(make_recording(1, name=name), validation_fraction=0.1) for name in names]
    assert set(splits) == {"train", "validation"}
    assert 0.08 < splits.count("validation") / len(splits) < 0.12
    assert [choose_split(make_recording(1, name=name), validation_fraction=0.1) for name in names] == splits


def test_a_recording_in_a_larger_validation_part_is_one_of_the_smaller_or_new():
    names = [f"07_{number}" for number in range(200)]

    def chosen(fraction: float) -> set[str]:
        recordings = [make_recording(1, name=name) for name in names]
        return {r.name for r in recordings if choose_split(r, validation_fraction=fraction) == "validation"}

    assert chosen(0.1) < chosen(0.3)


def test_a_folder_of_takes_becomes_windows_and_a_manifest(tmp_path, write_takes):
    source = write_takes({"07_01": "30", "07_02": "9", "16_01": "20", "08_01": "20"})
    summary = run(
        source, tmp_path / "out", config=PrepareConfig(window_frames=10, hop_frames=5, validation_fraction=0)
    )
    windows = read_windows(str(tmp_path / "out"))
    assert sorted(zip(windows.recording.tolist(), windows.split.tolist(), strict=True)) == (
        [("07_01", "train")] * 5 + [("08_01", "train")] * 3 + [("16_01", "test")] * 3
    )
    totals = summary.manifest.totals
    assert (totals.sources, totals.rows, totals.people, totals.frames, totals.seconds) == (
        4,
        11,
        3,
        79,
        79 / 50,
    )
    assert totals.splits["test"].model_dump() == {"sources": 1, "rows": 3, "people": 1, "seconds": 0.4}
    assert summary.manifest.config["reader"] == "takes"
    assert not summary.has_too_many_bad
    assert summary.lines() == [
        f"{tmp_path}/out: prepared; 11 windows of 3 people from 4 recordings, 2 s",
        "  test: 3 windows, 1 people, 1 recordings, 0 s",
        "  train: 8 windows, 2 people, 3 recordings, 1 s",
        "  dropped: too_short 1",
        "  assumed for 4: a rate of 120 Hz was taken",
        "  assumed for 4: the head was turned by ... degrees",
    ]


def test_a_second_run_finds_all_done_and_changes_nothing(tmp_path, write_takes):
    source = write_takes({"07_01": "30", "08_01": "20"})
    run(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    summary = run(source, tmp_path / "out")
    assert not summary.is_new
    assert "nothing to do" in summary.lines()[0]
    assert contents(tmp_path / "out") == before


def test_a_run_killed_before_its_manifest_ends_like_one_that_was_not(tmp_path, write_takes):
    source = write_takes({"07_01": "30", "08_01": "20"})
    run(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / MANIFEST).unlink()
    assert run(source, tmp_path / "out").is_new
    assert contents(tmp_path / "out") == before


def test_other_settings_or_takes_into_the_same_place_are_refused(tmp_path, write_takes):
    source = write_takes({"07_01": "30"})
    run(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="window_frames was 10, now 15"):
        run(source, tmp_path / "out", config=PrepareConfig(window_frames=15, hop_frames=5))
    write_takes({"08_01": "30"})
    with pytest.raises(InputError, match=r"1 input not given then \(.*08_01\.take\)"):
        run(source, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_bad_take_is_set_aside_by_name_and_the_rest_goes_on(tmp_path, write_takes):
    source = write_takes({"07_01": "30", "07_02": "garbage", "08_01": "20"})
    summary = run(source, tmp_path / "out")
    assert len(read_windows(str(tmp_path / "out"))) == 8
    assert f"  bad: {source}/07_02.take: wanted a number of frames, got 'garbage'" in summary.lines()
    assert not summary.has_too_many_bad
    assert run(source, tmp_path / "out", max_bad_fraction=0.3).has_too_many_bad


def test_if_all_takes_are_bad_it_says_so_whatever_is_allowed(tmp_path, write_takes):
    source = write_takes({"07_01": "garbage", "07_02": ""})
    summary = run(source, tmp_path / "out", max_bad_fraction=1.0)
    assert summary.has_too_many_bad
    assert summary.manifest.totals.bad == 2


def test_if_the_only_take_is_bad_nothing_is_left_behind(tmp_path, write_takes):
    source = write_takes({"07_01": "garbage"})
    with pytest.raises(InputError, match=r"^.*07_01\.take: wanted a number of frames"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unusable_storage_is_no_bad_take(tmp_path, write_takes, monkeypatch):
    def read(url: str, *, rate_hz: float, options: ReadOptions) -> Recording:
        raise StorageError(f"{url}: no answer")

    monkeypatch.setattr(prepare, "READERS", {"takes": Reader(name="takes", suffixes=(".take",), read=read)})
    with pytest.raises(StorageError):
        run(write_takes({"07_01": "30", "07_02": "30"}), tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing was done that a second run could go on from"


def test_the_same_recording_twice_is_refused_and_nothing_is_left_behind(tmp_path, write_takes):
    source = write_takes({"07_01": "30"})
    copies = tmp_path / "takes" / "copies"
    copies.mkdir()
    (copies / "07_01.take").write_text("30")
    with pytest.raises(InputError, match=r"07_01\.take and .*07_01\.take are both recording 07_01 of cmu"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_take_named_twice_is_read_once(tmp_path, write_takes):
    source = write_takes({"07_01": "30"})
    sources = [source, f"{source}/07_01.take"]
    summary = prepare.run(
        sources, reader="takes", out=str(tmp_path / "out"), config=CONFIG, max_bad_fraction=0.5
    )
    assert summary.manifest.totals.sources == 1


def test_an_unknown_reader_and_an_empty_folder_are_refused(tmp_path, write_takes):
    with pytest.raises(InputError, match="no such reader; there are takes"):
        prepare.run([str(tmp_path)], reader="betamax", out="out", config=CONFIG, max_bad_fraction=0.5)
    with pytest.raises(InputError, match="empty folder"):
        run(write_takes({}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_configuration_names_all_its_faults():
    with pytest.raises(InputError) as caught:
        PrepareConfig(window_frames=10, hop_frames=11, rate_hz=0, validation_fraction=1.5, unit_m=0.01)
    for fault in (
        "hop_frames must be in 1..10",
        "rate_hz must lie in 1..1000",
        "validation_fraction must be in 0..1",
    ):
        assert fault in str(caught.value)
