"""What `mpm inspect` says of a lifting job: how far it is, what was bad, and whether its parts are whole."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.lift_index import INDEX, bad_inputs, index_commits, read_index
from pipelines.lift_plan import PLAN, Plan, read_plan
from pipelines.manifest import MANIFEST, Part, read_manifest
from pipelines.parts import read_part
from pipelines.text_table import count

READERS = 8
"""Parts that are read at a time."""
MAX_BAD = 10
"""Bad inputs named one by one; the index names all."""


def is_lifting_job(url: str) -> bool:
    """Whether a folder holds what `mpm lift` planned."""
    return PLAN in storage.list_names(url)


def describe_job(url: str) -> list[str]:
    """Parts and inputs done, left and bad, rows; every part is read and its sum compared.

    InputError names the parts that are not what was written.
    """
    plan = read_plan(url)
    parts, bad = _finished(url) if storage.exists(storage.join(url, MANIFEST)) else ((), [])
    known = {part.name for part in parts}
    _verify(url, parts)
    # Parts of a run that has not ended, or of one that went on: they say themselves what is in them.
    others = [name for name in plan.part_names if name not in known]
    with ThreadPoolExecutor(READERS) as pool:
        commits = [
            commit for commit in pool.map(lambda s: read_part(s, out=url), plan.shards(others)) if commit
        ]
    bad += bad_inputs(index_commits(commits))
    done = [*parts, *(commit.part for commit in commits)]
    left = sorted({*others} - {commit.part.name for commit in commits})
    size_gb = sum(part.size_bytes for part in done) / 1e9
    lines = [
        f"  {count(len(done), 'part')} of {len(plan.part_names):,} done, {len(left):,} left; "
        f"{_inputs(plan, left)} of {count(plan.inputs, 'input')} left, {len(bad):,} bad; "
        f"{count(sum(part.rows for part in done), 'row')}, {size_gb:.2f} GB",
        f"  sums: {count(len(done), 'part')} read, every one as it was written",
    ]
    if left or not parts:
        lines.append("  not finished: run the same mpm lift again")
    lines += [f"  bad: {reason if name in reason else f'{name}: {reason}'}" for name, reason in bad[:MAX_BAD]]
    if len(bad) > MAX_BAD:
        lines.append(f"  bad: {len(bad) - MAX_BAD:,} more, all named in {INDEX}")
    return lines


def _finished(url: str) -> tuple[tuple[Part, ...], list[tuple[str, str]]]:
    return read_manifest(url, "poses").parts, bad_inputs(read_index(url))


def _inputs(plan: Plan, part_names: Sequence[str]) -> str:
    return f"{sum(len(shard.inputs) for shard in plan.shards(part_names)):,}"


def _verify(url: str, parts: Sequence[Part]) -> None:
    with ThreadPoolExecutor(READERS) as pool:
        is_whole = pool.map(lambda part: _is_whole(storage.join(url, part.name), part), parts)
        damaged = [part.name for part, whole in zip(parts, is_whole, strict=True) if not whole]
    if damaged:
        names = ", ".join(damaged[:3]) + (", ..." if len(damaged) > 3 else "")
        raise InputError(
            f"{url}: {len(damaged)} of {count(len(parts), 'part')} are not what was written ({names}); "
            "remove them and run the same mpm lift again"
        )


def _is_whole(url: str, part: Part) -> bool:
    if not storage.exists(url):
        return False
    return hashlib.sha256(storage.read_bytes(url)).hexdigest() == part.sha256
