"""JSON files of our own, read strictly: every error is one line that names the file."""

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from mpm_model.errors import InputError, listing


def read_json_object(path: Path) -> dict[str, Any]:
    """The object that a file holds; InputError if it is something else, or half of it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: wanted JSON, got something else or half of it ({error}); copy it again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: wanted a JSON object, got a {type(content).__name__}")
    return content


def key_faults(came: Set[str], wanted: Set[str]) -> list[str]:
    """Keys that are missing, and keys that nobody knows."""
    faults = []
    if missing := sorted(wanted - came):
        faults.append(f"missing {listing(missing)}")
    if unknown := sorted(came - wanted):
        faults.append(f"unknown {listing(unknown)}")
    return faults
