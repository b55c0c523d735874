import gzip
import pickle
import subprocess
import sys

import pytest

from mpm_model.errors import InputError
from pipelines.sources.options import ReadOptions
from pipelines.sources.registry import READERS, find_takes


def test_readers_are_found_by_their_names():
    assert set(READERS) == {"asf_amc", "bvh", "trc", "ui_prmd"}
    assert all(reader.name == name for name, reader in READERS.items())


@pytest.mark.parametrize("name", READERS)
def test_a_reader_travels_to_workers(name):
    assert pickle.loads(pickle.dumps(READERS[name])) == READERS[name]


def test_takes_are_listed_sorted_packed_or_not(tmp_path):
    for name in ("b/02_01.amc", "a/01_02.amc.gz", "a/01.asf", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    takes = find_takes(READERS["asf_amc"], str(tmp_path))
    assert [take.removeprefix(f"{tmp_path}/") for take in takes] == ["a/01_02.amc.gz", "b/02_01.amc"]
    assert find_takes(READERS["asf_amc"], str(tmp_path / "b/02_01.amc")) == [str(tmp_path / "b/02_01.amc")]


def test_angles_of_ui_prmd_are_not_taken_for_positions(tmp_path):
    for name in ("m01_s01_e01_positions.txt", "m01_s01_e01_positions_inc.txt", "m01_s01_e01_angles.txt"):
        (tmp_path / name).write_bytes(b"")
    assert len(find_takes(READERS["ui_prmd"], str(tmp_path))) == 2


def test_an_empty_folder_is_refused_with_what_was_wanted(tmp_path):
    with pytest.raises(
        InputError, match=r"wanted files that end in \.bvh or \.bvh\.gz .*found an empty folder"
    ):
        find_takes(READERS["bvh"], str(tmp_path))


def test_a_folder_of_other_files_is_refused_with_what_was_found(tmp_path):
    (tmp_path / "holiday.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"reader bvh, found 1 other file\(s\): .*holiday\.mp4"):
        find_takes(READERS["bvh"], str(tmp_path))
    with pytest.raises(InputError, match=r"holiday\.mp4: wanted files that end in \.bvh"):
        find_takes(READERS["bvh"], str(tmp_path / "holiday.mp4"))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        find_takes(READERS["bvh"], str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_rate_hz": 0.0}, "source_rate_hz must lie in .*got 0.0"),
        ({"unit_m": -1.0}, "unit_m must lie in .*got -1.0"),
        ({"dataset": ""}, "dataset must be of a-z"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ReadOptions(**options)


def test_importing_the_registry_loads_no_scipy_and_no_torch():
    heavy = "[name for name in ('scipy', 'torch', 'ray') if name in sys.modules]"
    code = f"import sys, pipelines.sources.registry; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
