"""Track files that lie: refused in one line, and never the end of the job."""

import io
import json

import numpy as np
import pytest

from mpm_model.errors import InputError
from pipelines.detections.registry import find_sources, read_source

GOOD = {
    "keypoints_px": np.random.default_rng(0).normal(500, 50, (20, 17, 2)),
    "skeleton": np.array("coco_17"),
    "rate_hz": np.array([25.0]),
}


def read(tmp_path, **changed):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **(GOOD | changed))
    (tmp_path / "track.npz").write_bytes(buffer.getvalue())
    return read_source(find_sources(str(tmp_path / "track.npz"))[0])[0]


def test_a_rate_in_a_list_of_one_is_read(tmp_path):
    assert read(tmp_path).rate_hz == 25.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rate_hz": np.array(-5.0)}, "rate_hz must lie in"),
        ({"rate_hz": np.array(np.nan)}, "rate_hz must lie in"),
        ({"rate_hz": np.array("fast")}, "rate_hz must be a number, got 'fast'"),
        ({"width_px": np.array("640")}, "width_px must be a number"),
        ({"width_px": np.array(640.5)}, "width_px must be a whole number"),
        ({"keypoints_px": np.full((20, 17, 2), "x")}, "keypoints_px must hold real numbers"),
        ({"keypoints_px": np.full((20, 17, 2), np.nan)}, "not one keypoint was seen"),
        ({"frames": np.array(["a"] * 20)}, "frames must hold real numbers"),
        ({"frames": np.full(20, np.nan)}, "frames must be whole numbers"),
        ({"frames": np.arange(20) + 2**62}, "frames must lie within"),
    ],
)
def test_a_track_that_means_nothing_is_refused(tmp_path, changed, said):
    with pytest.raises(InputError, match=said):
        read(tmp_path, **changed)


def test_damage_anywhere_in_a_file_is_an_input_error_or_harmless(tmp_path):
    read(tmp_path)
    content = (tmp_path / "track.npz").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        at = int(rng.integers(0, len(content) - 200))
        (tmp_path / "track.npz").write_bytes(content[:at] + bytes(200) + content[at + 200 :])
        try:
            read_source(find_sources(str(tmp_path / "track.npz"))[0])
        except InputError:
            continue


@pytest.mark.parametrize("text", ["[" * 100_000, '{"people":' + "[" * 100_000])
def test_json_nested_without_end_is_refused(tmp_path, text):
    (tmp_path / "frame_0.json").write_text(text)
    with pytest.raises(InputError, match=r"frame_0\.json"):
        [read_source(source) for source in find_sources(str(tmp_path))]


def test_what_an_output_says_of_itself_is_no_input(tmp_path):
    (tmp_path / "_manifest.json").write_text(json.dumps({"people": [], "image_id": 1}))
    with pytest.raises(InputError, match="wanted 2D detections"):
        find_sources(str(tmp_path))
