import json
import re
from dataclasses import replace

import numpy as np
import pytest
from browser import needs_browser, open_in_browser
from hypothesis import given
from hypothesis import strategies as st
from made_up_people import make_track

from mpm_model.pose.skeletons import H36M_17
from pipelines.lift_charts import large, lasted
from pipelines.lift_report import MOST_DRAWN_FRAMES, MOST_GROUPS, MOST_SAMPLES, LiftReport, write_report
from pipelines.lift_summary import (
    MOST_FRAMES,
    MOST_STEPS,
    Group,
    TrackSummary,
    group_bad,
    group_notes,
    pace_of,
    pick_samples,
    summarise_track,
)
from pipelines.manifest import Totals

pytestmark = pytest.mark.filterwarnings("error")

NAN = float("nan")
DAY_S = 86_400.0
EVIL = '</script><script>alert("{{scene}}")</script>\udcff\u202e'


def make_summary(person="0", **replaced):
    figures = {"frames": 100, "image_error": 0.1, "limb_variation": 0.05, "inpainted_share": 0.02}
    return TrackSummary(**({"source": "s3://b/video", "person": person} | figures | replaced))


def make_totals(**replaced):
    none = {"sources": 0, "bad": 0, "rows": 0, "people": 0, "frames": 0, "seconds": 0.0}
    return Totals(**(none | {"dropped": {}, "splits": {}} | replaced))


def make_report(**replaced):
    tracks = [make_track(person=str(i), jitter_px=10.0 * i) for i in range(5)]
    quality = [summarise_track(track) for track in tracks]
    report = LiftReport(
        title="Lifted: gait",
        made_by="mpm lift, mpm-on-ray 0.1.0, commit abc",
        config={"checkpoint": None, "mode": "fast", "min_confidence": 0.1},
        totals=make_totals(sources=10, bad=2, rows=1200, people=11, frames=1200, seconds=24.0),
        written=[(1e9 + 10 * i, 100) for i in range(6)] + [(1e9 + DAY_S + 10 * i, 100) for i in range(6)],
        bad=[("s3://b/a", "s3://b/a: wanted people, got nobody in 5 frames")] * 2,
        bad_count=2,
        notes={"nobody says the rate: 30 Hz assumed": 8},
        quality=quality,
        samples=[(label, tracks[int(picked.person)]) for label, picked in pick_samples(quality)],
    )
    return replace(report, **replaced)


def text_of(page):
    words = re.sub(r"<(script|style).*?</\1>", "", page.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", words))


def scene_of(page):
    return json.loads(
        re.search(r'<script type="application/json" id="scene">(.*?)</script>', page.decode())[1]
    )


def test_a_perfect_track_has_nothing_against_it():
    summary = summarise_track(make_track())
    assert (summary.source, summary.person, summary.frames) == ("videos/cam1", "0", 60)
    assert summary.image_error == pytest.approx(0, abs=1e-6)
    assert summary.limb_variation == pytest.approx(0, abs=1e-6)
    assert summary.inpainted_share == 0
    assert summary.error_50_mm is None


def test_a_limb_variation_is_that_of_the_median_limb():
    joints_rel_m = make_track().joints_rel_m.astype(np.float64)
    joints_rel_m[0::2] *= 0.8
    joints_rel_m[1::2] *= 1.2
    assert summarise_track(make_track(joints_rel_m=joints_rel_m)).limb_variation == pytest.approx(0.2)


def test_joints_filled_in_and_expected_errors_are_means():
    is_observed = np.ones((60, 17), dtype=bool)
    is_observed[:30] = False
    error_50_mm = np.full((60, 17), 30.0)
    error_50_mm[:, H36M_17.index("pelvis")] = 0.0
    error_50_mm[:, H36M_17.index("left_wrist")] = 62.0
    error_50_mm[0] = NAN
    summary = summarise_track(make_track(is_observed=is_observed, error_50_mm=error_50_mm))
    assert summary.inpainted_share == 0.5
    assert summary.error_50_mm == pytest.approx(32.0)


def test_a_long_track_is_measured_on_a_few_frames_of_all_of_it():
    frames = 100 * MOST_FRAMES
    is_observed = np.arange(frames)[:, None] < np.full(17, frames // 4)
    track = make_track(frames=frames, is_observed=is_observed)
    summary = summarise_track(track)
    assert summary.frames == frames
    assert summary.inpainted_share == pytest.approx(0.75, abs=2 / MOST_FRAMES)
    assert summarise_track(track) == summary


@pytest.mark.parametrize("frames", [0, 1, 9])
def test_what_is_too_short_is_not_measured(frames):
    summary = summarise_track(make_track(frames=frames))
    assert summary.frames == frames
    assert np.isnan(summary.limb_variation)
    assert np.isnan(summary.image_error) == (frames == 0)


def test_a_track_of_nothing_known_is_not_measured():
    nowhere = np.full((60, 17, 2), NAN)
    summary = summarise_track(make_track(keypoints_px=nowhere, is_observed=np.zeros((60, 17), dtype=bool)))
    assert np.isnan(summary.image_error)
    assert np.isnan(summary.limb_variation)
    assert summary.inpainted_share == 1.0


def test_the_best_the_median_pose_and_the_worst_are_picked():
    quality = [make_summary(str(i), image_error=0.01 * i, frames=10) for i in range(9)]
    quality[6] = replace(quality[6], frames=1000)
    picked = [(label, each.person) for label, each in pick_samples(quality[::-1])]
    assert picked == [("best", "0"), ("median", "6"), ("worst", "8")]
    labels = [label for label, _ in pick_samples(quality[:5], 5)]
    assert labels == [
        "best", "worse than 25% of the poses", "median", "worse than 75% of the poses", "worst",
    ]  # fmt: skip


def test_steady_limbs_that_were_made_up_are_not_the_best():
    honest, made_up = make_summary("honest"), make_summary("made up", limb_variation=0.0, inpainted_share=0.5)
    assert [each.person for _, each in pick_samples([made_up, honest])] == ["honest", "made up"]


def test_of_tracks_without_figures_the_longest_is_picked():
    tracks = [make_summary(str(i), limb_variation=NAN, frames=i) for i in range(3)]
    assert pick_samples(tracks) == [("too short to measure", tracks[2])]
    assert pick_samples([]) == []
    assert pick_samples([make_summary()]) == [("the only one", make_summary())]


@given(
    doubts=st.lists(st.sampled_from([*np.arange(60) / 60, NAN]), min_size=1, max_size=30),
    count=st.integers(1, 9),
)
def test_however_many_are_picked_none_is_twice_and_the_worst_is_there(doubts, count):
    quality = [make_summary(str(i), image_error=doubt) for i, doubt in enumerate(doubts)]
    picked = [track for _, track in pick_samples(quality, count)]
    assert 1 <= len(picked) <= count
    assert len({track.person for track in picked}) == len(picked)
    if known := [doubt for doubt in doubts if doubt == doubt]:
        assert picked[-1].image_error == max(known)


def test_the_pace_of_steady_work_is_rows_over_the_time_between_parts():
    written = [(1e9 + 5.0 * i, 1000) for i in range(50)]
    pace = pace_of(written[::-1])
    np.testing.assert_allclose(pace.rows_per_s, 200)
    assert pace.working_s == pytest.approx(250)
    assert pace.pauses == ()


def test_days_without_work_are_cut_out():
    written = [(5.0 * i + (3 * DAY_S if i >= 20 else 0), 1000) for i in range(50)]
    pace = pace_of(written)
    np.testing.assert_allclose(pace.rows_per_s, 200)
    assert pace.working_s == pytest.approx(250)
    (pause,) = pace.pauses
    assert pause == pytest.approx((100, 3 * DAY_S + 5, 3 * DAY_S + 100))


def test_parts_that_come_in_bunches_were_made_since_the_last_bunch():
    written = [(300.0 * round_ + 0.0 * worker, 600) for round_ in range(10) for worker in range(64)]
    pace = pace_of(written)
    assert not pace.pauses
    np.testing.assert_allclose(pace.rows_per_s[-1], 64 * 600 / 300)


@pytest.mark.parametrize("at_s", [[], [5.0], [5.0, 5.0], [5.0, 5.0 + 3 * DAY_S], [NAN, 5.0]])
def test_times_that_tell_no_pace_give_none(at_s):
    assert pace_of([(each, 100) for each in at_s]) is None


@given(st.lists(st.tuples(st.integers(0, 40) | st.integers(0, 10**6), st.integers(0, 10**6)), max_size=300))
def test_no_row_is_lost_from_the_pace(parts):
    at_s = np.cumsum([step_s for step_s, _ in parts])
    pace = pace_of([(float(each), rows) for each, (_, rows) in zip(at_s, parts, strict=True)])
    if pace is not None:
        assert len(pace.rows_per_s) <= MOST_STEPS
        made = float(pace.rows_per_s @ np.diff(pace.edges_s))
        assert made == pytest.approx(sum(rows for _, rows in parts))
        assert all(0 < pause.after_s < pace.working_s for pause in pace.pauses)


def test_reasons_that_differ_in_places_and_numbers_are_one():
    bad = [
        ("s3://b/a", "s3://b/a: wanted people, got nobody in 5 frames"),
        ("s3://b/c d", "s3://b/c d: wanted people, got nobody in 70 frames"),
        ("/data/e", "/data/e/0001.json: wanted JSON, got and/or nothing"),
        ("/data/f", "/data/f/0002.json: wanted JSON, got and/or nothing"),
        ("/data/g", "/data/g: broken at byte 7"),
    ]
    assert group_bad(bad) == [
        Group("wanted JSON, got and/or nothing", 2, ("/data/e", "/data/f")),
        Group("wanted people, got nobody in … frames", 2, ("s3://b/a", "s3://b/c d")),
        Group("broken at byte 7", 1, ("/data/g",)),
    ]
    assert [group.words for group in group_notes({"30 Hz": 2, "25 Hz": 3})] == ["… Hz"]
    assert group_notes({"30 Hz": 2, "25 Hz": 3})[0].times == 5


@pytest.mark.parametrize(
    ("lasted_s", "words"),
    [
        (0.25, "0.25 s"), (9, "9 s"), (245, "4 min 5 s"), (3599.7, "1 h 0 min"),
        (3 * DAY_S + 7300, "3 d 2 h"),
    ],
)  # fmt: skip
def test_times_are_said_in_two_units(lasted_s, words):
    assert lasted(lasted_s) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (7.46, "7.5"), (1204, "1,204"), (81.2e7, "812 million"), (2e10, "20 billion")],
)
def test_counts_are_said_as_people_say_them(number, words):
    assert large(number) == words


def test_the_page_says_what_was_done():
    words = text_of(write_report(make_report()))
    assert "8 of 10 videos were lifted, 2 could not be read." in words
    for tile in ("8 of 10 videos", "11 people", "1,200 poses", "24 s of people moving", "10 poses a second"):
        assert tile in words
    assert "Work stopped once, for 23 h 59 min in all: dashed, and cut out." in words
    assert "What could not be read 2 videos, all named in _manifest.json" in words
    assert "2 wanted people, got nobody in 5 frames s3://b/a s3://b/a" in words
    assert "8 nobody says the rate: 30 Hz assumed" in words
    assert "min_confidence 0.1" in words
    assert "checkpoint –" in words


def test_bars_hold_the_share_of_the_poses():
    quality = [make_summary(frames=300, image_error=0.055), make_summary(frames=100, image_error=0.9)]
    page = write_report(make_report(quality=[*quality, make_summary(image_error=NAN)])).decode()
    page = page.replace("\u00a0", " ")
    assert "<title>5 % to 6 %: 75 % of the poses, in 1 tracks</title>" in page
    assert "<title>30 % or more: 25 % of the poses, in 1 tracks</title>" in page
    assert "median 5.5 %, 19 of 20 poses up to 90 %" in page
    assert "1 tracks could not be measured." in page
    assert "Expected error" not in page
    quality = [make_summary(error_50_mm=31.0)]
    assert "median 31 mm" in write_report(make_report(quality=quality)).decode().replace("\u00a0", " ")


def test_samples_are_drawn_on_one_scale():
    track = make_track()
    far_away = replace(track, keypoints_px=track.keypoints_px / 8 + 500)
    for sample in scene_of(write_report(make_report(samples=[("near", track), ("far", far_away)]))):
        joints_mm = np.array(sample["joints_mm"]).reshape(-1, 17, 3)
        keypoints_mm = np.array(sample["keypoints_mm"]).reshape(-1, 17, 2)
        np.testing.assert_allclose(keypoints_mm, joints_mm[..., :2], atol=1)


def test_of_long_tracks_the_middle_is_drawn_at_a_rate_that_eyes_can_follow():
    (sample,) = scene_of(
        write_report(make_report(samples=[("long", make_track(frames=6000, rate_hz=100.0))]))
    )
    assert len(sample["frames"]) == MOST_DRAWN_FRAMES
    assert sample["step_s"] == pytest.approx(0.04)
    assert np.mean(sample["frames"]) == pytest.approx(3000, abs=4)


def test_what_is_nowhere_is_not_drawn():
    track = make_track(frames=20, rate_hz=25.0)
    joints_rel_m = track.joints_rel_m.copy()
    joints_rel_m[3] = NAN
    joints_rel_m[4, 2] = 1e6
    is_observed = track.is_observed.copy()
    is_observed[5, 7] = False
    (sample,) = scene_of(
        write_report(
            make_report(samples=[("odd", replace(track, joints_rel_m=joints_rel_m, is_observed=is_observed))])
        )
    )
    joints = np.array(sample["joints_mm"], dtype=float).reshape(20, 17, 3)
    assert np.isnan(joints[3]).all()
    assert np.isnan(joints[4, 2]).all()
    keypoints = np.array(sample["keypoints_mm"], dtype=float).reshape(20, 17, 2)
    assert np.isnan(keypoints[5, 7]).all()
    assert sample["seen"][5 * 17 + 7] == "0"


EMPTY = {
    "totals": make_totals(), "written": [], "bad": [], "bad_count": 0, "notes": {}, "quality": [],
    "samples": [],
}  # fmt: skip
UNKNOWN = [make_summary(image_error=NAN, limb_variation=NAN, inpainted_share=NAN, frames=0)]
ODD = {
    "nothing at all": EMPTY,
    "all bad": EMPTY | {"totals": make_totals(sources=3, bad=3), "bad": [("a", "a: no")] * 3, "bad_count": 3},
    "no bad one is handed over": EMPTY | {"totals": make_totals(sources=3, bad=3), "bad_count": 3},
    "one frame": {"samples": [("one", make_track(frames=1))], "written": [(1e9, 1)], "quality": UNKNOWN},
    "parts without rows": {"written": [(1e9 + i, 0) for i in range(9)]},
    "no frame": {"samples": [("none", make_track(frames=0))]},
    "nothing seen": {"samples": [("blind", make_track(is_observed=np.zeros((60, 17), dtype=bool)))]},
    "joints nowhere": {"samples": [("", make_track(joints_rel_m=np.full((60, 17, 3), np.nan)))]},
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_jobs_have_a_page_too(odd):
    page = write_report(make_report(**ODD[odd]))
    assert "nan" not in text_of(page).lower()


def make_vast_report():
    """As much of everything as an archive may bring."""
    rng = np.random.default_rng(0)
    words = [" ".join(map(chr, rng.integers(97, 123, 300))) for _ in range(400)]
    urls = [f"s3://{'archive/' * 60}{word}" for word in words]
    times_s = 1e9 + np.cumsum(rng.choice([1.0, 5.0, DAY_S], 20_000, p=[0.5, 0.4, 0.1]))
    quality = [
        make_summary(word, source=url, image_error=error, error_50_mm=300 * error)
        for word, url, error in zip(100 * words, 100 * urls, rng.random(40_000), strict=True)
    ]
    count = 10**9
    return make_report(
        totals=make_totals(
            sources=count, bad=count // 2, rows=count, people=count, frames=count, seconds=1e9
        ),
        config=dict.fromkeys(words, words),
        written=[(float(at_s), 1000) for at_s in times_s],
        bad=[(url, f"{url}: {word}") for url, word in zip(urls, words, strict=True)],
        bad_count=count // 2,
        notes=dict.fromkeys(words, 3),
        quality=quality,
        samples=[(word, make_track(frames=50_000)) for word in words[: 2 * MOST_SAMPLES]],
    )


def test_the_page_of_a_vast_archive_stays_small():
    page = write_report(make_vast_report())
    assert len(page) < 2_000_000
    assert len(scene_of(page)) == MOST_SAMPLES
    words = text_of(page)
    assert f"{400 - MOST_GROUPS} other kinds" in words
    assert "500,000,000 videos, all named in _manifest.json; below, 400 of them" in words


def test_names_cannot_break_out_of_the_page():
    report = make_report(
        title=EVIL,
        made_by=EVIL,
        config={EVIL: EVIL, "more": [EVIL, {EVIL: EVIL}]},
        totals=make_totals(sources=2, bad=1, rows=5, people=1, frames=5, seconds=1.0, dropped={EVIL: 1}),
        bad=[(EVIL, EVIL)],
        bad_named_in=EVIL,
        notes={EVIL: 1},
        quality=[make_summary(EVIL, source=EVIL)],
        samples=[(EVIL, make_track(source=EVIL, person=EVIL))],
    )
    page = write_report(report).decode()
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert scene_of(page.encode())[0]["label"] == EVIL


def test_the_page_refers_to_nothing_outside():
    page = write_report(make_report(bad=[("a", "a: broken")] * 2)).decode()
    page = re.sub(r"http://www\.w3\.org/(2000/svg|1999/xhtml)", "", page)  # names, nothing that is fetched
    assert not re.search(r"(https?|ftp|file):|//\w+\.\w|@import|\burl\(", page)
    assert not re.search(r'(src|href)="(?!data:)', page)


USE_EVERYTHING = """<script type="module">
const slider = document.querySelector(".sample input");
slider.value = 7; slider.dispatchEvent(new Event("input"));
document.body.dataset.frame = document.querySelector(".sample output").textContent;
const button = document.querySelector(".sample button");
document.body.dataset.button = button.getAttribute("aria-label");
button.click(); button.click();
document.body.dataset.overflow = document.documentElement.scrollWidth - window.innerWidth;
document.body.dataset.views = document.querySelectorAll(".views svg").length;
document.body.dataset.isSound = [...document.querySelectorAll(".views line, .views circle")]
  .every((each) => [...each.attributes].every(({ value }) => !/NaN|undefined/.test(value)));
</script></body>"""


@needs_browser
@pytest.mark.parametrize("width_px", [1200, 390], ids=["desk", "phone"])
@pytest.mark.parametrize("make", [make_report, make_vast_report], ids=["usual", "vast"])
def test_the_page_runs_in_a_browser_without_a_word_on_its_console(tmp_path, make, width_px):
    report = make()
    page = write_report(report).decode().replace("</body>", USE_EVERYTHING)
    document, log = open_in_browser(page, tmp_path, width_px=width_px)
    assert "CONSOLE" not in log
    found = dict(re.findall(r'data-(\w[\w-]*)="(.*?)"', re.search(r"<body(.*?)>", document)[1]))
    sample = scene_of(page.encode())[0]
    assert found["frame"] == f"frame {sample['frames'][7]:,}"
    assert found["button"] == "Play"
    assert int(found["overflow"]) <= 0, "the page is no wider than the window"
    assert int(found["views"]) == 3 * min(len(report.samples), MOST_SAMPLES)
    assert found["is-sound"] == "true"


@needs_browser
@pytest.mark.parametrize("odd", ODD)
def test_odd_jobs_are_drawn_in_silence(tmp_path, odd):
    document, log = open_in_browser(write_report(make_report(**ODD[odd])).decode(), tmp_path)
    assert "CONSOLE" not in log
    assert "NaN" not in document


@needs_browser
def test_the_browser_test_would_see_an_error(tmp_path):
    page = write_report(make_report()).decode().replace('"bones":', '"bone":')
    _, log = open_in_browser(page, tmp_path)
    assert "CONSOLE" in log
