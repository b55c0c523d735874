"""Options and exit codes that several verbs share."""

from typing import Annotated

import typer

EXIT_INPUT = 2
"""What the user gave is wrong."""
EXIT_BAD_INPUTS = 3
"""Done, but more inputs were bad than allowed."""

Out = Annotated[str, typer.Option(help="Folder or URL to write; an earlier run of the same is continued.")]
Data = Annotated[list[str], typer.Option(help="Windows that `mpm prepare` made; may be repeated.")]
Override = Annotated[
    list[str] | None, typer.Option("--set", help="Setting to change: optimiser.learning_rate=1e-4.")
]
MaxBadFraction = Annotated[
    float, typer.Option(min=0, max=1, help="Share of bad inputs above which the exit code is 3.")
]
