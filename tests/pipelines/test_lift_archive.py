"""Archives that grow, runs that die or meet, parts that are lost or damaged, files that are bad or deadly."""

import gzip
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dying_readers import read_or_die
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.errors import InputError
from pipelines import lift, lift_parts, storage, storage_gzip
from pipelines.detections import bombs
from pipelines.detections.tracks_output import track_to_npz
from pipelines.inspect import run as inspect
from pipelines.lift_config import LiftConfig
from pipelines.lift_index import (
    INDEX,
    bad_inputs,
    index_commits,
    parts_of,
    qualities,
    read_index,
    receipts,
    sum_index,
    write_index,
)
from pipelines.lift_on_ray import MOST_FAULTS, make_parts_on_ray
from pipelines.lift_plan import group_inputs, read_plan
from pipelines.lift_steps import Steps
from pipelines.manifest import MANIFEST, Input, Job, Part, Receipt, TrackLine
from pipelines.parts import KILLS, Commit
from pipelines.poses_table import read_poses, read_track
from pipelines.reader_process import ReaderDiedError, ReaderProcess, read_one_by_one
from pipelines.schema import TableMetadata
from pipelines.storage import StorageError
from tests.cluster.lift_jobs import (
    check_same_rows,
    make_npz,
    make_parquet,
    make_track,
    part_names,
    save_lifter,
)
from tests.cluster.poisons import HOOK, POISONS, killer
from tests.command import mpm

TOLERANCE_M = 1e-6
SMALL_MIB = 0.016
"""A shard takes two files of 20 frames."""


class ReaderHere:
    """In place of a process beside this one, which takes a second to start."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def call(self, function, argument):
        return function(argument)


@pytest.fixture(scope="module")
def lifter(tmp_path_factory) -> str:
    return save_lifter(tmp_path_factory.mktemp("lifter"))


@pytest.fixture
def archive(tmp_path) -> Path:
    """Ten videos of one person each."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number:02d}.npz").write_bytes(make_npz(number, frames=20))
    return folder


@pytest.fixture
def was_read(monkeypatch) -> list[str]:
    """Names of the files that were read so far."""
    names: list[str] = []
    read = Steps.read

    def watched(self, inputs):
        names.extend(Path(item.url).name for item in inputs)
        return read(self, inputs)

    monkeypatch.setattr(Steps, "read", watched)
    return names


@pytest.fixture
def run(lifter, monkeypatch) -> Callable[..., lift.LiftSummary]:
    """Lift in this process."""
    monkeypatch.setattr(lift_parts, "ReaderProcess", ReaderHere)

    def run(*inputs: object, out: object, shard_mib: float = SMALL_MIB, **changed: object):
        config = LiftConfig(checkpoint=lifter, shard_mib=shard_mib)
        return lift.run(
            list(map(str, inputs)), out=str(out), config=replace(config, **changed), max_bad_fraction=0.1
        )

    return run


@pytest.fixture
def command(capsys, monkeypatch, lifter, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """`mpm lift` of the archive; its exit code and what it said."""
    monkeypatch.setattr(lift_parts, "ReaderProcess", ReaderHere)

    def lift_archive(*options: object):
        arguments = (tmp_path / "archive", "--checkpoint", lifter, "--out", tmp_path / "out")
        return mpm(capsys, monkeypatch, "lift", *arguments, "--shard-mib", SMALL_MIB, *options)

    return lift_archive


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def indexed(out: object) -> set[str]:
    return {Path(url).name for url in read_index(str(out))["input"].to_pylist()}


class TestRunsThatGoOn:
    def test_an_archive_that_has_grown_is_lifted_where_it_is_new(self, run, was_read, archive, tmp_path):
        out = tmp_path / "out"
        assert run(archive, out=out).new_inputs == 10
        before = contents(out)
        assert was_read == [f"{number:02d}.npz" for number in range(10)]
        was_read.clear()
        assert run(archive, out=out).new_inputs == 0
        assert was_read == []
        for number in (5, 10):
            (archive / f"{number:02d}b.npz").write_bytes(make_npz(100 + number, frames=20))
        summary = run(archive, out=out)
        assert was_read == ["05b.npz", "10b.npz"]
        assert summary.new_inputs == 2
        assert summary.manifest.totals.sources == 12
        assert contents(out).items() >= before.items()
        run(archive, out=tmp_path / "at_once")
        check_same_rows(str(out), str(tmp_path / "at_once"))

    def test_parts_that_were_lost_are_made_again_and_no_others(self, run, was_read, archive, tmp_path):
        out = tmp_path / "out"
        run(archive, out=out)
        whole = contents(out)
        was_read.clear()
        shards = list(read_plan(str(out)).shards())
        for lost in (shards[0], shards[3]):
            (out / lost.part_name).unlink()
        run(archive, out=out)
        assert was_read == [Path(item.url).name for i in (0, 3) for item in shards[i].inputs]
        assert contents(out) == whole
        assert indexed(out) == {path.name for path in archive.iterdir()}

    def test_a_run_that_died_before_its_manifest_reads_only_what_is_missing(
        self, run, was_read, archive, tmp_path
    ):
        out = tmp_path / "out"
        run(archive, out=out)
        whole, first = contents(out), next(read_plan(str(out)).shards())
        for name in (MANIFEST, INDEX, first.part_name):
            (out / name).unlink()
        was_read.clear()
        run(archive, out=out)
        assert was_read == [Path(item.url).name for item in first.inputs]
        assert contents(out) == whole

    @pytest.mark.parametrize("is_finished", [True, False])
    def test_a_part_that_was_cut_is_made_again(self, is_finished, run, archive, tmp_path):
        out = tmp_path / "out"
        run(archive, out=out)
        whole = contents(out)
        name = min(whole)
        (out / name).write_bytes(whole[name][:-200])
        if not is_finished:
            (out / MANIFEST).unlink()
        run(archive, out=out)
        assert contents(out) == whole

    @pytest.mark.parametrize("damage", ["cut", "absent", "of a run that knew less"])
    def test_an_index_that_does_not_fit_is_made_anew_from_the_parts(
        self, damage, run, was_read, archive, tmp_path
    ):
        """The last: of two runs that end at once, one puts the manifest, the other, later, its index."""
        out = tmp_path / "out"
        run(archive, out=out)
        knew_less = (out / INDEX).read_bytes()
        (archive / "99.npz").write_bytes(make_npz(99, frames=20))
        run(archive, out=out)
        if damage == "absent":
            (out / INDEX).unlink()
        else:
            (out / INDEX).write_bytes(knew_less if "less" in damage else knew_less[:-9])
        was_read.clear()
        run(archive, out=out)
        assert indexed(out) == {path.name for path in archive.iterdir()}
        assert was_read == []

    def test_two_runs_at_once_both_end_and_the_output_is_whole(self, run, archive, tmp_path):
        out, faults = tmp_path / "out", []
        barrier = threading.Barrier(3)

        def one() -> None:
            barrier.wait()
            try:
                run(archive, out=out)
            except BaseException as fault:  # noqa: BLE001 - told below
                faults.append(fault)

        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults
        run(archive, out=tmp_path / "alone")
        assert contents(out) == contents(tmp_path / "alone")
        assert indexed(out) == {path.name for path in archive.iterdir()}
        assert "every one as it was written" in "\n".join(inspect(str(out)))

    def test_what_one_run_plans_while_another_works_is_done_by_whoever_ends_last(
        self, run, archive, tmp_path, monkeypatch
    ):
        out, make = tmp_path / "out", lift.make_parts

        def overtaken(*arguments, **keywords):
            monkeypatch.setattr(lift, "make_parts", make)
            (archive / "99.npz").write_bytes(make_npz(99, frames=20))
            run(archive, out=out)
            return make(*arguments, **keywords)

        monkeypatch.setattr(lift, "make_parts", overtaken)
        summary = run(archive, out=out)
        assert summary.manifest.totals.sources == 11
        assert indexed(out) == {path.name for path in archive.iterdir()}


class TestPieces:
    @pytest.mark.parametrize("name", ["one.npz", "several.parquet"])
    def test_a_file_shared_by_several_parts_lifts_as_in_one(self, name, run, tmp_path):
        """People with short and long gaps; the first and the last frame of each piece as well."""
        content = make_npz(3, frames=900) if name == "one.npz" else make_parquet(3, frames=900, people=3)
        (tmp_path / name).write_bytes(content)
        run(tmp_path / name, out=tmp_path / "whole", shard_mib=64)
        run(tmp_path / name, out=tmp_path / "pieces", shard_mib=len(content) / 6 / 2**20)
        assert len(part_names(str(tmp_path / "pieces"))) in (6, 7)
        whole, pieces = (
            sorted(read_poses(str(tmp_path / out)), key=lambda track: track.person)
            for out in ("whole", "pieces")
        )
        assert len(whole) == len(pieces) == (1 if name == "one.npz" else 3)
        for one, other in zip(whole, pieces, strict=True):
            np.testing.assert_array_equal(other.frames, one.frames)
            np.testing.assert_array_equal(other.keypoints_px, one.keypoints_px)
            np.testing.assert_allclose(other.joints_rel_m, one.joints_rel_m, atol=TOLERANCE_M, rtol=0)

    def test_one_person_is_found_by_the_index(self, run, tmp_path):
        content = make_parquet(3, frames=300, people=3)
        (tmp_path / "several.parquet").write_bytes(content)
        out = str(tmp_path / "out")
        run(tmp_path / "several.parquet", out=out, shard_mib=len(content) / 6 / 2**20)
        names = parts_of(read_index(out), source="video0003", person="1")
        assert 0 < len(names) < 6
        (found,) = read_track([storage.join(out, name) for name in names], source="video0003", person="1")
        (wanted,) = (track for track in read_poses(out) if track.person == "1")
        np.testing.assert_array_equal(found.frames, wanted.frames)
        np.testing.assert_array_equal(found.joints_rel_m, wanted.joints_rel_m)


class TestBadFiles:
    def test_a_file_that_kills_its_reader_is_named_and_the_nine_others_are_lifted(
        self, lifter, archive, tmp_path, monkeypatch
    ):
        (archive / "04.npz").write_bytes(killer(4))
        (tmp_path / "sitecustomize.py").write_text(HOOK)
        monkeypatch.syspath_prepend(str(tmp_path))  # a reader gets the path of this process
        out = str(tmp_path / "out")
        summary = lift.run(
            [str(archive)], out=out, config=LiftConfig(checkpoint=lifter), max_bad_fraction=0.1
        )
        assert bad_inputs(read_index(out)) == [(str(archive / "04.npz"), KILLS)]
        assert (summary.manifest.totals.people, summary.has_too_many_bad) == (9, False)

    def test_every_kind_of_bad_file_is_named_with_its_reason(self, run, archive, tmp_path):
        said = {name: reason for name, (_, reason) in POISONS.items() if "bomb" not in name}
        for name in said:
            (archive / name).write_bytes(POISONS[name][0]())
        totals = run(archive, out=tmp_path / "out").manifest.totals
        assert (totals.sources - totals.bad, totals.people) == (10, 10)
        bad = {Path(url).name: reason for url, reason in bad_inputs(read_index(str(tmp_path / "out")))}
        assert bad.keys() == said.keys()
        assert not [(name, bad[name]) for name in said if said[name] not in bad[name] or "\n" in bad[name]]

    def test_what_would_fill_the_memory_is_refused_before_it_is_unpacked(
        self, run, archive, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(storage_gzip, "MOST_BYTES", 10**6)
        monkeypatch.setattr(bombs, "MOST_BYTES", 10**6)
        zeros = {name: np.zeros((10**6, 17, 2), np.float32) for name in ("keypoints_px", "more")}
        np.savez_compressed(archive / "bomb.npz", skeleton="h36m_17", **zeros)
        nothing = pa.nulls(10**7, pa.int32())
        pq.write_table(pa.table({"frames": nothing}), archive / "bomb.parquet")
        start = b'[{"image_id": 1, "keypoints": [1]},'
        (archive / "bomb.json.gz").write_bytes(gzip.compress(start + b" " * 10**6))
        (archive / "members.json.gz").write_bytes(gzip.compress(start) + gzip.compress(b"]"))
        run(archive, out=tmp_path / "out")
        bad = {Path(url).name: reason for url, reason in bad_inputs(read_index(str(tmp_path / "out")))}
        for name in ("bomb.npz", "bomb.parquet", "bomb.json.gz"):
            assert "unpack" in bad.pop(name), name
        assert list(bad) == ["members.json.gz"]
        assert "unpack" not in bad["members.json.gz"], "its members are one text"

    def test_one_keypoint_far_from_any_image_spoils_nothing(self, run, tmp_path):
        track = make_track(1, frames=60)
        for name, value_px in (("far", 3e38), ("unseen", np.nan)):
            track.keypoints_px[30, 3] = value_px
            (tmp_path / f"{name}.npz").write_bytes(track_to_npz(track))
            run(tmp_path / f"{name}.npz", out=tmp_path / name)
        check_same_rows(str(tmp_path / "far"), str(tmp_path / "unseen"))
        (found,) = read_poses(str(tmp_path / "far"))
        assert np.isfinite(found.joints_rel_m).all()

    def test_nothing_is_judged_by_one_death(self, tmp_path):
        """Somebody else may have ended the reader."""
        once = str(tmp_path / "once")
        with ReaderProcess(preload="json") as reader:
            assert read_one_by_one(reader, read_or_die, [once]) == [once]
            first, died, last = read_one_by_one(reader, read_or_die, ["a", "killer", "b"])
            assert (first, last) == ("a", "b")
            assert isinstance(died, ReaderDiedError)

    @pytest.mark.parametrize("place", ["disk", "bucket"])
    def test_empty_files_are_named(self, place, run, tmp_path, request):
        url = str(tmp_path / "archive") if place == "disk" else request.getfixturevalue("s3_bucket")
        for number in range(20):
            storage.write_once(f"{url}/{number:02d}.npz", make_npz(number, frames=20))
        empty = [f"{url}/empty.{end}" for end in ("json", "json.gz", "npz", "parquet")]
        for name in empty:
            storage.write_once(name, b"")
        summary = run(url, out=tmp_path / "out")
        bad = dict(bad_inputs(read_index(str(tmp_path / "out"))))
        assert sorted(bad) == empty
        assert all("empty" in reason for reason in bad.values())
        assert summary.has_too_many_bad, "4 of 24"

    def test_links_are_followed_and_pipes_are_no_files(self, run, archive, tmp_path):
        (archive / "link.npz").symlink_to(archive / "00.npz")
        (archive / "nowhere.npz").symlink_to(archive / "nothing.npz")
        os.mkfifo(archive / "pipe.npz")
        run(archive, out=tmp_path / "out")
        assert indexed(tmp_path / "out") == {*(f"{n:02d}.npz" for n in range(10)), "link.npz", "nowhere.npz"}
        ((name, reason),) = bad_inputs(read_index(str(tmp_path / "out")))
        assert name.endswith("nowhere.npz")
        assert "no such file" in reason

    def test_a_file_that_makes_no_sense_is_named_with_what_came_of_it(self, run, archive, tmp_path):
        entry = {"image_id": [1], "keypoints": [1.0] * 51}
        (archive / "odd.json").write_text(json.dumps({"images": [], "annotations": [entry]}))
        run(archive, out=tmp_path / "out")
        ((_, reason),) = bad_inputs(read_index(str(tmp_path / "out")))
        assert "makes no sense as that (TypeError: unhashable type: 'list')" in reason

    def test_the_exit_code_says_whether_more_are_bad_than_allowed(self, command, archive):
        (archive / "bad.npz").write_bytes(b"PK\x03\x04 no more")
        code, said, _ = command()
        assert code == 0, "1 of 11"
        assert "bad.npz" in said
        assert command("--max-bad-fraction", 0.05)[0] == 3
        assert command("--max-bad-fraction", 0.1)[0] == 0


class TestRefused:
    def test_a_changed_input(self, command, archive, tmp_path):
        assert command()[0] == 0
        before = contents(tmp_path / "out")
        (archive / "03.npz").write_bytes(make_npz(33, frames=25))
        code, _, error = command()
        assert code == 2
        assert error.count("\n") == 1
        assert "1 input changed since" in error
        assert "03.npz" in error
        assert contents(tmp_path / "out") == before

    def test_other_settings_with_what_differs(self, command, archive, tmp_path):
        assert command()[0] == 0
        code, _, error = command("--mode", "causal", "--rate-hz", 25)
        assert code == 2
        assert error.count("\n") == 1
        assert "mode was 'fast', now 'causal'" in error
        assert "rate_hz was None, now 25.0" in error
        assert command("--shard-mib", 1)[0] == 0, "says in what portions, and may change"


class TestInspected:
    def test_a_job_that_has_not_ended(self, run, archive, tmp_path):
        out = tmp_path / "out"
        run(archive, out=out)
        shards = list(read_plan(str(out)).shards())
        for name in (MANIFEST, INDEX, shards[0].part_name, shards[1].part_name):
            (out / name).unlink()
        left = len(shards[0].inputs) + len(shards[1].inputs)
        text = "\n".join(inspect(str(out)))
        assert (
            f"{len(shards) - 2} parts of {len(shards)} done, 2 left; {left} of 10 inputs left, 0 bad" in text
        )
        assert "not finished: run the same mpm lift again" in text

    def test_a_finished_one_with_what_was_bad(self, run, archive, tmp_path):
        (archive / "bad.npz").write_bytes(b"PK\x03\x04 no more")
        run(archive, out=tmp_path / "out")
        text = "\n".join(inspect(str(tmp_path / "out")))
        assert "0 left; 0 of 11 inputs left, 1 bad" in text
        assert "every one as it was written" in text
        assert "not finished" not in text
        assert "bad.npz: wanted an npz file" in text

    def test_a_damaged_one_names_the_part(self, run, archive, tmp_path):
        out = tmp_path / "out"
        run(archive, out=out)
        part = min(out.glob("part-*"))
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
        with pytest.raises(InputError, match=rf"1 of \d+ parts are not what was written \({part.name}\)"):
            inspect(str(out))
        part.unlink()
        run(archive, out=out)
        inspect(str(out))


PEOPLE = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 10**9)), max_size=3, unique=True)


class TestIndex:
    @given(videos=st.lists(st.one_of(PEOPLE, st.just("cut short")), min_size=1, max_size=40))
    def test_it_holds_what_the_commits_said(self, videos):
        """One video is two pieces in two parts: counted once, its people as well."""
        commits = []
        for number, people in enumerate(videos):
            is_bad = isinstance(people, str)
            lines = () if is_bad else tuple(
                TrackLine(source=f"v{number}", person=person, rows=rows, seconds=0.5, image_error=0.25)
                for person, rows in people
            )  # fmt: skip
            for piece in range(1 + number % 2):
                receipt = Receipt(
                    url=f"{number}.npz",
                    size_bytes=number,
                    status="bad" if is_bad else "done",
                    reason=people if is_bad else None,
                    rows=sum(line.rows for line in lines),
                    notes=("assumed",),
                    piece=piece,
                    tracks=lines,
                )
                part = Part(name=f"part-{number}-{piece}.parquet", rows=receipt.rows, size_bytes=1, sha256="")
                commits.append(Commit(part=part, receipts=(receipt,)))
        index, totals = index_commits(commits), sum_index(index_commits(commits))
        said = [receipt for commit in commits for receipt in commit.receipts]
        assert totals.sources == len(videos)
        assert totals.rows == sum(receipt.rows for receipt in said)
        assert totals.people == len({(line.source, line.person) for each in said for line in each.tracks})
        assert dict(bad_inputs(index)) == {each.url: each.reason for each in said if each.status == "bad"}
        assert [summary.frames for summary in qualities(index)] == [
            line.rows for receipt in said for line in receipt.tracks
        ]
        noted = [receipt.url for receipt in receipts(index) if receipt.notes]
        assert noted == [each.url for each in said if each.piece == 0], "once a video, not once a piece"

    def test_it_comes_back_as_it_was_written(self, run, archive, tmp_path):
        run(archive, out=tmp_path / "out")
        index = read_index(str(tmp_path / "out"))
        (tmp_path / "again").mkdir()
        write_index(str(tmp_path / "again"), index)
        assert read_index(str(tmp_path / "again")).equals(index)
        assert pq.read_schema(tmp_path / "again" / INDEX).names == index.column_names

    def test_a_folder_without_one_has_no_rows(self, tmp_path):
        assert read_index(str(tmp_path)).num_rows == 0


class NoStorage(Steps):
    """Steps over a storage that is not there."""

    def read(self, inputs):
        raise StorageError(f"{inputs[0].url}: does not answer")


@pytest.mark.ray
class TestOnRay:
    @pytest.fixture(autouse=True)
    def workers_know_the_tests(self, ray_session):
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])

    def shards(self):
        job = Job(kind="poses", config={}, inputs=(), made_by="a test")
        inputs = [Input(url=f"video{number}", size_bytes=1, stamp="") for number in range(8)]
        return group_inputs(job, inputs, shard_bytes=1)

    def test_parts_are_the_bytes_of_this_process(self, run, archive, tmp_path, monkeypatch):
        (archive / "bad.npz").write_bytes(b"PK\x03\x04 no more")
        run(archive, out=tmp_path / "here")
        monkeypatch.setattr(lift_parts, "IN_PROCESS_BYTES", 0)
        run(archive, out=tmp_path / "ray")
        assert contents(tmp_path / "ray") == contents(tmp_path / "here")

    def test_a_storage_that_is_not_there_ends_the_job_at_once(self, lifter, tmp_path):
        assert len(self.shards()) > 2 * MOST_FAULTS
        steps = NoStorage(
            checkpoint=lifter,
            config=LiftConfig(checkpoint=lifter),
            metadata=TableMetadata(config="{}", made_by="a test"),
        )
        with pytest.raises(StorageError, match="does not answer"):
            list(make_parts_on_ray(self.shards(), out=str(tmp_path / "out"), steps=steps))
