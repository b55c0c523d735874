"""Pages of one file: a template and what goes into it, with no reference to anything outside."""

import json
import re
from collections.abc import Mapping
from importlib import resources


def asset(name: str) -> str:
    """Text of a file of `pipelines/assets`."""
    return resources.files("pipelines").joinpath("assets", name).read_text(encoding="utf-8").rstrip("\n")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """The template with each `{{name}}` replaced, in one pass: a part may hold anything, braces too."""
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def json_in_html(value: object) -> str:
    """JSON that no content can end the script element from, nor open a comment in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
