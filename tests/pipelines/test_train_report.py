import json
import re

import pytest
from browser import needs_browser, open_in_browser

from mpm_model.errors import InputError
from pipelines.train_charts import MOST_POINTS, charts
from pipelines.train_findings import advice, duration, events_of, result, tiles
from pipelines.train_report import render, write_report
from pipelines.train_series import series_of

CARD = {
    "made_by": "mpm pretrain, mpm-on-ray 0.1.0, commit abc",
    "training_windows": 1234,
    "run": {"config": {"seed": 0, "network": {"width": 64}}, "data": ["s3://b/windows one"], "init": None},
    "last": {"step": 300},
}
PNG = b"\x89PNG\r\n\x1a\n not a real one"


def make_rows(steps=300, *, validations=(100, 200, 300), losses=(0.9, 0.5, 0.4)):
    """A run that reports every ten steps, with a validation on two data sets now and then."""
    rows = [
        {
            "step": step, "steps": steps, "epoch": step / 10, "loss": 100 / step, "loss_3d": 10 / step,
            "rate": 1e-3, "windows_per_s": 500.0, "waiting_share": 0.01, "workers": 2, "at_s": 1e9 + step,
        }
        for step in range(10, steps + 1, 10)
    ]  # fmt: skip
    for step, loss in zip(validations, losses, strict=True):
        row = next(row for row in rows if row["step"] == step)
        row |= {"validation_loss": loss, "validation_loss_3d": loss / 10}
        row |= {"validation_cmu/loss_3d": loss / 10, "validation_ui_prmd/loss_3d": loss / 5}
        row |= {"validation_limb/left_arm": 200 * loss, "validation_limb/right_leg": 100 * loss}
    return rows


def scene_of(page):
    return json.loads(re.search(r'<script type="application/json" id="scene">(.*?)</script>', page)[1])


def chart(rows, title):
    return next(chart for chart in charts(series_of(rows)) if chart["title"] == title)


def line(rows, title, name):
    return next(line["points"] for line in chart(rows, title)["lines"] if line["name"] == name)


def test_the_report_says_in_words_what_came_of_the_run():
    words = " ".join(result(make_rows(), CARD))
    assert "trained for 300 steps, 30 epochs on 1,234 windows" in words
    assert "from 10 to 0.333" in words
    assert "0.4 at last, its lowest; it began with 0.9" in words
    assert "the left arm is farthest off (80 mm), the right leg least (40 mm)" in words
    assert "interrupted" not in words
    shown = {about: value for value, about in tiles(make_rows())}
    assert shown["lowest validation loss, step 300"] == "0.4"
    assert shown["validation error at last, 3d"] == "40.0 mm"
    assert shown["windows a second, median"] == "500"
    assert shown["of the time waiting for data"] == "1.0%"
    assert shown["from the first report to the last"] == "4 min 50 s"


def test_what_was_not_measured_is_not_claimed():
    rows = [{"step": 5, "steps": 5, "epoch": 1.0, "loss": 0.5}]
    assert [about for _, about in tiles(rows)] == ["steps, 1 epochs", "training loss at the end"]
    assert "It was not validated" in " ".join(result(rows, {}))
    page = render(rows, card={}, pictures={})
    assert "GPU" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    assert [chart["title"] for chart in scene_of(page)["charts"]] == ["Loss"]


def test_resumes_and_lost_workers_are_told_of_where_they_happened():
    rows = make_rows()
    for row in rows[10:]:
        row |= {"workers": 1, "resumes": 1}
    for row in rows[20:]:
        row |= {"workers": 2, "resumes": 2}
    for row in rows[25:]:
        row |= {"resumes": 3}
    assert [(event.step, event.words) for event in events_of(rows)] == [
        (110, "taken up again, 2 → 1 workers"),
        (210, "taken up again, 1 → 2 workers"),
        (260, "taken up again"),
    ]
    assert "taken up again, 2 → 1 workers before step 110; " in " ".join(result(rows, CARD))
    assert scene_of(render(rows, card=CARD, pictures={}))["events"][0] == [
        110,
        "taken up again, 2 → 1 workers",
    ]


@pytest.mark.parametrize(
    ("losses", "hint"),
    [
        ((0.9, 0.5, 0.4), "still fell by 20% over the last fifth: try more epochs"),
        ((0.9, 0.4, 0.5), "risen by 25% since step 200: train for fewer epochs"),
        ((0.9, 0.4, 0.4), None),
    ],
)
def test_the_validation_curve_says_whether_to_train_on(losses, hint):
    words = " ".join(each.words for each in advice(make_rows(losses=losses), CARD))
    assert hint in words if hint else "validation loss" not in words


def test_waiting_and_an_idle_gpu_are_pointed_out():
    rows = [row | {"waiting_share": 0.2, "gpu_use": 0.3} for row in make_rows()]
    words = " ".join(each.words for each in advice(rows, CARD))
    assert "waited for data 20% of the time" in words
    assert "GPU was busy 30% of the time" in words


@pytest.mark.parametrize(
    ("made_by", "task", "verbs"),
    [
        ("mpm pretrain, 1", None, ["finetune"]),
        ("mpm finetune, 1", "lifting", ["evaluate", "lift"]),
        ("mpm finetune, 1", "completion", ["evaluate", "complete"]),
        ("mpm finetune, 1", "unified", ["evaluate", "lift", "complete"]),
    ],
)
def test_the_next_commands_are_those_of_the_task(made_by, task, verbs):
    card = {"made_by": made_by, "run": {"config": {"task": task}, "data": ["a b"]}}
    commands = [each.command for each in advice(make_rows(), card) if each.command]
    assert [command.split()[1] for command in commands] == verbs
    assert "--data 'a b'" in commands[0]


def test_charts_hold_the_figures_they_are_named_for():
    rows = make_rows()
    assert line(rows, "Validation error by data set, 3d", "ui_prmd") == [[100, 180], [200, 100], [300, 80]]
    assert line(rows, "Validation error by limb", "left arm") == [[100, 180], [200, 100], [300, 80]]
    assert line(rows, "Loss", "validation 3d") == [[100, 0.09], [200, 0.05], [300, 0.04]]
    colours = {line["name"]: line["colour"] for line in chart(rows, "Loss")["lines"]}
    assert colours["validation 3d"] == colours["3d"] != colours["total"]
    assert line(rows, "Windows in a second", "all workers")[0] == [10, 500]
    assert line(rows, "Shares of the time", "waiting for data")[0] == [10, 1]
    assert "Workers" not in [chart["title"] for chart in charts(series_of(rows))], "they were always two"
    rows[-1]["workers"] = 1
    assert line(rows, "Workers", "workers")[-2:] == [[290, 2], [300, 1]]


def test_many_reports_become_few_points_and_a_number_of_workers_stays_whole():
    rows = [
        {"step": step, "loss": 1000.0 if step == 7 else 1.0, "workers": 1 + step % 2, "rate": 0.1}
        for step in range(1, 4001)
    ]
    points = line(rows, "Loss", "total")
    assert len(points) == MOST_POINTS
    assert points[-1][0] == 4000
    assert {value for _, value in points} == {1.0}, "one outlier among ten does not move the median"
    assert {value for _, value in line(rows, "Workers", "workers")} <= {1, 2}


def test_figures_that_are_not_finite_are_left_out():
    rows = [*make_rows(), {"step": 310, "steps": 310, "epoch": 31, "loss": float("nan"), "loss_3d": 1.0}]
    page = render(rows, card=CARD, pictures={})
    assert "NaN" not in page
    assert line(rows, "Loss", "total")[-1][0] == 300


def test_the_tables_say_the_last_validation_in_figures(tmp_path):
    write_report(tmp_path, rows=make_rows(), card=CARD, pictures={})
    page = (tmp_path / "report.html").read_text()
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    assert ["", "loss", "3d, mm"] in cells
    assert ["all", "0.4", "40.0"] in cells
    assert ["ui_prmd", "–", "80.0"] in cells
    assert ["left arm", "180.0", "80.0", "80.0"] in cells
    assert ["run.config.network.width", "64"] in cells
    assert ["run.data", "s3://b/windows one"] in cells


def test_pictures_stand_in_order_with_the_last_one_shown():
    names = ("poses_000000200.png", "poses_000000010.png", "poses_001000000.png", "hands")
    page = render(make_rows(), card=CARD, pictures=dict.fromkeys(names, PNG))
    images = re.findall(r'<img alt="(.*?)" data-step="(.*?)"( hidden)? src="data:image/png;base64,', page)
    assert images == [
        ("poses at step 10", "10", " hidden"),
        ("poses at step 200", "200", " hidden"),
        ("poses at step 1,000,000", "1,000,000", ""),
        ("hands at step 300", "300", ""),
    ]
    assert page.count('type="range"') == 1, "one picture needs no slider"


def test_names_cannot_break_out_of_the_page():
    evil = '</script><script>alert("{{scene}}")</script>'
    rows = [row | {f"validation_{evil}/loss_3d": 1.0, f"loss_{evil}": 1.0} for row in make_rows()]
    card = {"made_by": evil, "run": {"config": {evil: evil, "task": evil}, "data": [evil]}}
    page = render(rows, card=card, pictures={f"{evil}_000000001.png": PNG})
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert evil in [line["name"] for line in scene_of(page)["charts"][0]["lines"]]


def test_the_page_refers_to_nothing_outside():
    page = render(make_rows(), card=CARD | {"run": {}}, pictures={"poses": PNG})
    page = page.replace("http://www.w3.org/2000/svg", "")  # a name, nothing that is fetched
    assert not re.search(r"(https?|ftp|file):|//\w+\.\w|@import|\burl\(", page)
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_no_rows_make_no_report():
    with pytest.raises(InputError, match="wanted the rows of a run"):
        render([], card=CARD, pictures={})


@pytest.mark.parametrize(
    ("lasted_s", "words"), [(9, "9 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (360000, "100 h 0 min")]
)
def test_durations_are_said_as_people_say_them(lasted_s, words):
    assert duration([{"at_s": 5.0}, {}, {"at_s": 5.0 + lasted_s}]) == words


USE_EVERYTHING = """<script type="module">
const svg = document.querySelector("svg");
const { left, width } = svg.getBoundingClientRect();
svg.dispatchEvent(new PointerEvent("pointermove", { clientX: left + width }));
document.body.dataset.readout = document.querySelector("section.card h2 span").textContent;
svg.dispatchEvent(new PointerEvent("pointerleave"));
const slider = document.querySelector(".pictures input");
slider.value = 0; slider.dispatchEvent(new Event("input"));
document.body.dataset.shown = document.querySelector(".pictures img:not([hidden])").alt;
document.body.dataset.overflow = document.documentElement.scrollWidth - window.innerWidth;
document.body.dataset.curves = document.querySelectorAll("path.curve").length;
document.body.dataset.isSound = [...document.querySelectorAll("path.curve")]
  .every((path) => !path.getAttribute("d").includes("NaN"));
</script></body>"""


def make_full_page():
    rows = make_rows()
    for row in rows[10:]:
        row |= {"workers": 1, "resumes": 1}
    pictures = dict.fromkeys(("poses_000000100.png", "poses_000000200.png"), TINY_PNG)
    long = {"run": CARD["run"] | {"data": ["s3://bucket/" + "a-very-long-name/" * 12]}}
    return render(rows, card=CARD | long, pictures=pictures)


TINY_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)


@needs_browser
@pytest.mark.parametrize("width_px", [1200, 390], ids=["desk", "phone"])
def test_the_page_runs_in_a_browser_without_a_word_on_its_console(tmp_path, width_px):
    page = make_full_page().replace("</body>", USE_EVERYTHING)
    document, log = open_in_browser(page, tmp_path, width_px=width_px)
    assert "CONSOLE" not in log
    found = dict(re.findall(r'data-(\w[\w-]*)="(.*?)"', re.search(r"<body(.*?)>", document)[1]))
    assert found["readout"].strip() == "at step 300"
    assert found["shown"] == "poses at step 100"
    assert int(found["overflow"]) <= 0, "the page is no wider than the window"
    assert int(found["curves"]) == sum(len(chart["lines"]) for chart in scene_of(page)["charts"])
    assert found["is-sound"] == "true"


@needs_browser
def test_one_report_alone_is_drawn(tmp_path):
    page = render([{"step": 5, "steps": 5, "loss": 0.5, "rate": 0.0}], card={}, pictures={})
    document, log = open_in_browser(page, tmp_path)
    assert "CONSOLE" not in log
    assert "NaN" not in document
    assert "Infinity" not in document


@needs_browser
def test_the_browser_test_would_see_an_error(tmp_path):
    _, log = open_in_browser(make_full_page().replace('"events":', '"event":'), tmp_path)
    assert "CONSOLE" in log
