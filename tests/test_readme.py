"""What the README says runs."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from pipelines.cli import app

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
COMMANDS = re.findall(r"`(mpm [^`]+)`", README)
VERBS = get_command(app).commands


class Called(Exception):
    """The verb was reached with arguments that it takes."""


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_and_a_place_in_the_readme(verb):
    assert VERBS[verb].help
    assert any(command.split()[1] == verb for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_reaches_its_verb(command, monkeypatch):
    verb, *arguments = shlex.split(command)[1:]
    module = importlib.import_module(f"pipelines.{verb.replace('-', '_')}")

    def run(*_args: object, **_options: object) -> None:
        raise Called

    monkeypatch.setattr(module, "run", run)
    with pytest.raises(Called):
        get_command(app).main([verb, *arguments], standalone_mode=False)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_targets_of_the_makefile(target):
    makefile = (Path(__file__).resolve().parent.parent / "Makefile").read_text()
    assert f"\nmake {target} " in README
    assert re.search(rf"^{target}:.*setup", makefile, re.MULTILINE)
