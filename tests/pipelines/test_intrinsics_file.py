import json

import pytest

from mpm_model.errors import InputError
from mpm_model.pose.intrinsics import Intrinsics
from pipelines.intrinsics_file import read_intrinsics

PLAIN = Intrinsics(focal_px=(1100.0, 1090.0), center_px=(960.0, 540.0))
LENS = Intrinsics(focal_px=(1100.0, 1090.0), center_px=(960.0, 540.0), distortion=(-0.1, 0.02, 0.001, 0, 0))
MATRIX = [[1100, 0, 960], [0, 1090, 540], [0, 0, 1]]


def test_four_numbers_are_focal_lengths_and_centre():
    assert read_intrinsics("1100,1090, 960,540") == PLAIN


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"fx": 1100, "fy": 1090, "cx": 960, "cy": 540, "rms": 0.3}, PLAIN),
        ({"camera_matrix": MATRIX}, PLAIN),
        ({"K": MATRIX, "dist": None}, PLAIN),
        (MATRIX, PLAIN),
        ({"fx": 1100, "fy": 1090, "cx": 960, "cy": 540, "distortion": [-0.1, 0.02, 0.001, 0]}, LENS),
        ({"mtx": MATRIX, "dist": [[-0.1, 0.02, 0.001, 0, 0]]}, LENS),
        (
            {
                "camera_matrix": {"rows": 3, "cols": 3, "data": [number for row in MATRIX for number in row]},
                "distortion_coefficients": {"rows": 1, "cols": 5, "data": [-0.1, 0.02, 0.001, 0, 0]},
            },
            LENS,
        ),
        ({"camera_matrix": MATRIX, "distortion": [-0.1, 0.02, 0.001, 0, 0, 0, 0, 0]}, LENS),
    ],
)
def test_files_say_it_in_several_ways(tmp_path, content, expected):
    (tmp_path / "camera.json").write_text(json.dumps(content))
    assert read_intrinsics(str(tmp_path / "camera.json")) == expected


def test_one_focal_length_is_both(tmp_path):
    (tmp_path / "camera.json").write_text('{"fx": 800, "cx": 320, "cy": 240}')
    assert read_intrinsics(str(tmp_path / "camera.json")).focal_px == (800, 800)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"fx": 1, "cx": 2}, "no cy, and no camera matrix; wanted FX,FY,CX,CY"),
        ({"fx": "1", "cx": 2, "cy": None}, "fx must be a number, got '1'; .*cy must be a number, got None"),
        ({"K": [[1, 2], [3, 4]], "distort": []}, "K must have 3 x 3 numbers, got 4; distort is not read"),
        ({"K": [[9, 1, 5], [0, 9, 5], [0, 0, 1]]}, r"K must be \[\[fx, 0, cx\]"),
        ({"K": MATRIX, "dist": [1, 2, 3]}, "dist must be k1, k2, p1, p2 and perhaps k3, got 3 numbers"),
        ({"K": MATRIX, "dist": [0] * 7 + [0.1]}, "dist must be k1, k2, p1, p2 and perhaps k3, got 8"),
        ({"K": "no"}, "K must be numbers, got 'no'"),
        ({"fx": -1, "cx": 2, "cy": 2}, "focal lengths must be positive pixels, got -1, -1"),
        (3, "camera_matrix must have 3 x 3 numbers, got 1"),
    ],
)
def test_faults_of_a_file_are_named_in_one_line(tmp_path, content, fault):
    (tmp_path / "camera.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=fault) as caught:
        read_intrinsics(str(tmp_path / "camera.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["1,2,3", "1,2,3,x", "1,2,3,4,5", ","])
def test_other_than_four_numbers_are_refused(given):
    with pytest.raises(InputError, match="wanted FX,FY,CX,CY in pixels, or a JSON file"):
        read_intrinsics(given)


def test_numbers_that_are_no_camera_are_refused():
    with pytest.raises(InputError, match="--intrinsics 0,nan,1,2: focal lengths must be positive pixels"):
        read_intrinsics("0,nan,1,2")


def test_a_file_that_is_not_there_is_said_to_be_absent(tmp_path):
    with pytest.raises(InputError, match=r"camera\.json"):
        read_intrinsics(str(tmp_path / "camera.json"))
