import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_people import make_track

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.poses_table import write_poses
from pipelines.schema import TableMetadata
from pipelines.view import (
    STEP_M,
    STEP_PX,
    camera_tilt_rad,
    floor_height_m,
    level,
    quantise,
    render,
    run,
    short_names,
)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"no browser here ({', '.join(BROWSERS)})")


def scene_of(page):
    text = re.search(r'<script type="application/json" id="scene">(.*?)</script>', page, re.DOTALL)[1]
    return json.loads(text)


def decode(packed):
    steps = np.frombuffer(base64.b64decode(packed["data"]), "<i2")
    return packed["origin"] + packed["step"] * steps.astype(float)


def test_the_page_refers_to_nothing_outside():
    page = render([make_track(), make_track(source="videos/cam2")], about=["Checkpoint demo: 61 mm."])
    assert not re.search(r"(https?|ftp|file):|//\w+\.\w|@import|\burl\(", page)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "{{" not in page


def test_the_data_decode_to_the_track_within_half_a_step():
    track = make_track(jitter_px=3.0)
    packed = scene_of(render([track]))["tracks"][0]
    joints_rel_m = decode(packed["joints_rel_m"]).reshape(-1, 17, 3)
    keypoints_px = decode(packed["keypoints_px"]).reshape(-1, 17, 2)
    assert np.abs(joints_rel_m - track.joints_rel_m).max() <= STEP_M / 2 + 1e-9
    assert np.abs(keypoints_px - track.keypoints_px).max() <= STEP_PX / 2 + 1e-9
    confidence = np.frombuffer(base64.b64decode(packed["confidence"]), "u1") / 255
    assert np.abs(confidence - 0.8).max() <= 1 / 255
    assert np.array_equal(np.frombuffer(base64.b64decode(packed["frames"]), "<i4"), track.frames)
    assert np.array_equal(np.frombuffer(base64.b64decode(packed["time_s"]), "<f8"), track.time_s)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), step=st.sampled_from([STEP_M, STEP_PX])
)
def test_quantised_numbers_are_at_most_half_their_step_wrong(values, step):
    packed = quantise(np.array(values), step)
    assert packed["step"] >= step
    assert np.abs(decode(packed) - values).max() <= packed["step"] * 0.5 * (1 + 1e-6)


def test_who_was_seen_is_kept_bit_by_bit():
    is_observed = np.random.default_rng(0).random((60, 17)) < 0.5
    packed = scene_of(render([make_track(is_observed=is_observed)]))["tracks"][0]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed["is_observed"]), "u1"))[: 60 * 17]
    assert np.array_equal(bits.reshape(60, 17).astype(bool), is_observed)


def test_a_keypoint_that_nobody_saw_spoils_nothing():
    track = make_track()
    keypoints_px, confidence = track.keypoints_px.copy(), track.confidence.copy()
    keypoints_px[10:20, 3], confidence[10:20, 3] = 1e9, 0.0
    keypoints_px[30, 5] = np.nan
    confidence[40, 6] = 1e-6
    page = render([replace(track, keypoints_px=keypoints_px, confidence=confidence)])
    packed = scene_of(page)["tracks"][0]
    kept = np.frombuffer(base64.b64decode(packed["confidence"]), "u1").reshape(60, 17)
    assert (kept[10:20, 3] == 0).all()
    assert kept[30, 5] == 0
    assert kept[40, 6] == 1, "little confidence is not none"
    assert packed["keypoints_px"]["step"] == STEP_PX


def test_names_cannot_break_out_of_the_page():
    evil = 'videos/</script><script>alert("x")</script><!--'
    page = render([make_track(source=evil, person="<b>&")], title=evil, about=[evil])
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    scene = scene_of(page)
    assert scene["tracks"][0]["person"] == "<b>&"
    assert scene["sources"] == [scene["tracks"][0]["source"]]


def test_braces_in_a_name_are_left_alone():
    assert "{{scene}}" in scene_of(render([make_track(person="{{scene}}")]))["tracks"][0]["person"]


def test_a_long_track_is_cut_and_the_page_says_so():
    packed = scene_of(render([make_track(frames=2000)], max_frames=500))["tracks"][0]
    assert len(decode(packed["joints_rel_m"])) == 500 * 17 * 3
    assert "first 500 of 2,000 frames" in packed["note"]


def test_a_page_holds_so_many_tracks_and_says_so():
    page = render([make_track(source=f"videos/cam{i}", frames=3) for i in range(5)], max_tracks=2)
    assert len(scene_of(page)["tracks"]) == 2
    assert "Showing 2 of 5 tracks" in page


def test_an_image_of_unknown_size_is_framed_by_its_keypoints():
    packed = scene_of(render([make_track(width_px=None, height_px=None)]))["tracks"][0]
    left, top, right, bottom = packed["image_box_px"]
    track = make_track()
    assert not packed["is_image_known"]
    assert left < track.keypoints_px[..., 0].min() < track.keypoints_px[..., 0].max() < right
    assert top < track.keypoints_px[..., 1].min() < track.keypoints_px[..., 1].max() < bottom


def test_sources_are_named_by_the_shortest_ends_that_differ():
    assert short_names(["s3://b/day1/cam1", "s3://b/day1/cam2/"]) == {
        "s3://b/day1/cam1": "cam1",
        "s3://b/day1/cam2/": "cam2",
    }
    assert list(short_names(["a/day1/cam1", "a/day2/cam1", "a/day2/cam1"]).values()) == [
        "day1/cam1",
        "day2/cam1",
    ]


def test_the_floor_lies_at_the_lower_ankle():
    standing_up_m = level(make_track(frames=1).joints_rel_m.astype(float), tilt_rad=0.0)
    assert floor_height_m(standing_up_m) == pytest.approx(-0.84)


@given(tilt_rad=st.floats(-0.7, 0.7))
def test_a_camera_that_looks_down_on_a_standing_person_is_levelled(tilt_rad):
    upright_m = make_track(frames=1).joints_rel_m.astype(float)
    ankle = H36M_17.index("left_ankle")
    slant = np.arctan2(0.02, 1.34)  # of the made-up person itself
    turn = np.array(
        [
            [1, 0, 0],
            [0, np.cos(tilt_rad), -np.sin(tilt_rad)],
            [0, np.sin(tilt_rad), np.cos(tilt_rad)],
        ]
    )
    filmed_m = upright_m @ turn.T
    found_rad = camera_tilt_rad(filmed_m)
    assert found_rad == pytest.approx(tilt_rad + slant, abs=1e-6)
    levelled_m = level(filmed_m, tilt_rad=found_rad)
    assert levelled_m[0, ankle, 1] == pytest.approx(-np.hypot(0.84, 0.02), abs=1e-3)


def test_somebody_who_lies_is_not_taken_for_a_tilted_camera():
    lying_m = make_track(frames=1).joints_rel_m[..., [0, 2, 1]].astype(float)
    assert camera_tilt_rad(lying_m) == 0.0


def test_joints_that_are_not_finite_are_refused_by_frame():
    track = make_track()
    joints_rel_m = track.joints_rel_m.copy()
    joints_rel_m[7:9, 3] = np.nan
    with pytest.raises(InputError, match=r"videos/cam1, person 0: .*2 of 60 frames, first in frame 7"):
        render([replace(track, joints_rel_m=joints_rel_m)])


def test_no_tracks_make_no_page():
    with pytest.raises(InputError, match="at least one track"):
        render([])


def test_a_page_is_written_from_a_poses_table(tmp_path):
    metadata = TableMetadata(
        config='{"checkpoint": "models/of/ann/lifter", "mode": "fast"}', made_by="mpm lift, 1"
    )
    tracks = [make_track(frames=3, person="short"), make_track(), make_track(source="videos/cam2")]
    poses = tmp_path / "poses.parquet"
    poses.write_bytes(write_poses(tracks, metadata=metadata))
    lines = run(str(poses), out=str(tmp_path / "deep" / "page.html"), about=["MPJPE 61 mm"])
    page = (tmp_path / "deep" / "page.html").read_text()
    assert "3 of 3 tracks" in lines[0]
    assert "MPJPE 61 mm" in page
    assert "<p>mpm lift, 1, checkpoint lifter, mode fast</p>" in page
    assert "models/of" not in page
    assert [track["person"] for track in scene_of(page)["tracks"]] == ["0", "short", "0"], "longest first"

    run(str(poses), out=str(tmp_path / "page.html"), sources=["cam2"])
    assert scene_of((tmp_path / "page.html").read_text())["sources"] == ["cam2"]


def test_a_source_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    poses = tmp_path / "poses.parquet"
    metadata = TableMetadata(config="{}", made_by="a test")
    poses.write_bytes(write_poses([make_track(), make_track(source="videos/cam2")], metadata=metadata))
    with pytest.raises(InputError, match="wanted source 'cam3', got a table with cam1, cam2"):
        run(str(poses), out=str(tmp_path / "page.html"), sources=["cam3", "cam1"])
    assert not (tmp_path / "page.html").exists()


def test_a_table_without_poses_makes_no_page(tmp_path):
    poses = tmp_path / "poses.parquet"
    poses.write_bytes(write_poses([], metadata=TableMetadata(config="{}", made_by="a test")))
    with pytest.raises(InputError, match=r"poses\.parquet: wanted poses to show"):
        run(str(poses), out=str(tmp_path / "page.html"))


def open_in_browser(page, tmp_path):
    """The document after a second of the browser's time, and the browser's log."""
    path = tmp_path / "page.html"
    path.write_text(page)
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=1000", "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


USE_EVERYTHING = """<script type="module">
const find = (id) => document.getElementById(id);
const pick = (id, value) => { find(id).value = value; find(id).dispatchEvent(new Event("change")); };
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const point = (type, clientX) => new PointerEvent(type, { pointerId: 1, clientX });
const drag = (type, x) => find("canvas-3d").dispatchEvent(point(type, x));
find("canvas-3d").setPointerCapture = () => {};
pick("source", 1); pick("source", 0); pick("person", 1); pick("speed", 2);
[" ", " ", "ArrowRight", "End", "ArrowRight", "Home", "ArrowLeft"].forEach(press);
document.querySelectorAll("button").forEach((button) => button.click());
drag("pointerdown", 10); drag("pointermove", 60); drag("pointerup", 60);
find("canvas-3d").dispatchEvent(new WheelEvent("wheel", { deltaY: -300, cancelable: true }));
find("scrub").value = 7; find("scrub").dispatchEvent(new Event("input"));
</script></body>"""


@needs_browser
def test_the_page_runs_in_a_browser_without_a_word_on_its_console(tmp_path):
    track = make_track(jitter_px=2.0)
    is_observed, confidence = track.is_observed.copy(), track.confidence.copy()
    is_observed[:, 11:14], confidence[:, 11:14] = False, 0.0
    is_observed[5], confidence[5] = False, 0.0
    second = replace(track, person="1", is_observed=is_observed, confidence=confidence)
    page = render([track, second, make_track(source="videos/cam2", frames=1, width_px=None)])
    document, log = open_in_browser(page.replace("</body>", USE_EVERYTHING), tmp_path)
    assert "CONSOLE" not in log
    assert re.search(r'<output id="time"[^>]*>frame 7 · 0\.14 s</output>', document)
    assert '<span id="image-size">640 × 800 px</span>' in document


@needs_browser
def test_the_browser_test_would_see_an_error(tmp_path):
    broken = render([make_track()]).replace('"skeleton":', '"skeletons":')
    _, log = open_in_browser(broken, tmp_path)
    assert "CONSOLE" in log
