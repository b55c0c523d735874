"""`mpm table`: results of `mpm evaluate --json` side by side, if they may stand there."""

from collections.abc import Sequence

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.protocols.results import from_json, side_by_side


def run(urls: Sequence[str]) -> list[str]:
    """Lines of one table of several results.

    InputError names the difference if they are not of one protocol, version, data, 2D source and flip.
    """
    if len(set(urls)) != len(urls):
        raise InputError("a result is given twice; give every one once")
    return side_by_side({url: from_json(storage.read_json(storage.absolute(url)), url=url) for url in urls})
