import pytest

from mpm_model.errors import InputError
from pipelines.manifest import (
    JOB,
    MANIFEST,
    Input,
    Job,
    Receipt,
    claim_output,
    part_urls,
    read_manifest,
    sum_receipts,
)
from pipelines.parts import finish


def make_job(
    *, hop_frames: int = 27, takes: tuple[str, ...] = ("a", "b"), kind: str = "windows", stamp: str = "1"
) -> Job:
    return Job(
        kind=kind,
        config={"hop_frames": hop_frames, "rate_hz": 50.0},
        inputs=tuple(Input(url=take, size_bytes=10, stamp=stamp) for take in takes),
        made_by="a test",
    )


@pytest.fixture
def out(tmp_path) -> str:
    return str(tmp_path / "out")


def test_an_empty_place_is_new_then_continued_then_done(out):
    job = make_job()
    assert claim_output(out, job) == "new"
    assert claim_output(out, job) == "continue"
    finish(out, job, [])
    assert claim_output(out, job) == "done"


def test_the_code_that_made_a_job_is_no_part_of_its_identity(out):
    claim_output(out, make_job())
    assert claim_output(out, make_job().model_copy(update={"made_by": "a later version"})) == "continue"


def test_a_folder_that_holds_something_else_is_refused_and_named(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"holds something else \(thesis\.tex\); give another --out"):
        claim_output(str(tmp_path), make_job())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"wanted a folder, .*out is a file"):
        claim_output(str(tmp_path / "out"), make_job())


def test_a_job_file_of_somebody_else_is_refused(tmp_path):
    (tmp_path / JOB).write_text('{"kind": "cake"}')
    with pytest.raises(InputError, match=r"_job\.json: not a job file of ours: kind: "):
        claim_output(str(tmp_path), make_job())


def test_another_configuration_is_refused_key_by_key(out):
    claim_output(out, make_job())
    with pytest.raises(InputError, match="hop_frames was 27, now 9"):
        claim_output(out, make_job(hop_frames=9))


def test_other_inputs_are_refused_by_name(out):
    claim_output(out, make_job())
    with pytest.raises(InputError, match=r"1 input no longer given \(a\); 2 inputs not given then \(c, d\)"):
        claim_output(out, make_job(takes=("b", "c", "d")))
    with pytest.raises(InputError, match=r"2 inputs changed since \(a, b\)"):
        claim_output(out, make_job(stamp="2"))


def test_another_kind_is_refused(out):
    claim_output(out, make_job())
    with pytest.raises(InputError, match="it holds windows, now poses are asked for"):
        claim_output(out, make_job(kind="poses"))
    finish(out, make_job(), [])
    with pytest.raises(InputError, match="wanted poses, as lift writes them, got windows"):
        read_manifest(out, "poses")


def test_a_manifest_that_was_edited_wrongly_is_refused(out, tmp_path):
    claim_output(out, make_job())
    finish(out, make_job(), [])
    path = tmp_path / "out" / MANIFEST
    path.write_text(path.read_text().replace('"sources"', '"sauces"'))
    with pytest.raises(InputError, match=r"_manifest\.json: not a manifest file of ours"):
        part_urls(out, "windows")


def test_totals_are_sums_and_people_count_once():
    def receipt(take: str, person: str, split: str, rows: int) -> Receipt:
        return Receipt(
            url=take, size_bytes=1, status="done", rows=rows, frames=100, seconds=2.0,
            dropped={"too_short": 1}, dataset="d", people=(person,), recording=take, split=split,
        )  # fmt: skip

    totals = sum_receipts(
        [
            receipt("a", "d/1", "train", 3),
            receipt("b", "d/1", "validation", 4),
            receipt("c", "d/2", "train", 5),
            Receipt(url="e", size_bytes=1, status="bad", reason="cut short"),
        ]
    )
    assert (totals.sources, totals.bad, totals.rows, totals.people) == (4, 1, 12, 2)
    assert (totals.frames, totals.seconds, totals.dropped) == (300, 6.0, {"too_short": 3})
    assert totals.splits["train"].model_dump() == {"sources": 2, "rows": 8, "people": 2, "seconds": 4.0}
    assert totals.splits["validation"].people == 1
