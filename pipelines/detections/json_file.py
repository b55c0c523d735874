"""JSON files, with errors that say where they break."""

import json
from typing import Any

from mpm_model.errors import InputError
from pipelines import storage


def read_json(url: str, *, wanted: str) -> Any:
    """The content of a JSON file (or `.json.gz`); InputError names the byte at which it breaks off."""
    return parse_json(storage.read_bytes(url), where=url, wanted=wanted)


def parse_json(content: bytes, *, where: str, wanted: str) -> Any:
    """The value of a JSON text; NaN and Infinity are let through for the caller to judge."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: wanted {wanted}, got bytes that are no text (byte {error.start})"
        ) from error
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"{where}: wanted {wanted}, got JSON nested without end") from error
    except json.JSONDecodeError as error:
        at = len(text[: error.pos].encode())
        raise InputError(
            f"{where}: wanted {wanted}, got JSON that breaks at byte {at} of {len(content)} ({error.msg}); "
            "write the file again"
        ) from error
