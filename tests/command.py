"""How tests type a command."""

import sys

import pytest

from pipelines import cli


def mpm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object):
    """Run `mpm ARGUMENTS` in this process; (exit code, what it printed, what it said of errors)."""
    monkeypatch.setattr(sys, "argv", ["mpm", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, captured.err
