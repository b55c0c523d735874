"""The part of the command `mpm` that hands a verb to a cluster; `cli` takes it in."""

from typing import Annotated

import typer


def submit(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="VERB ARGS...", help="What you would type after mpm.")
    ],
    address: Annotated[
        str | None,
        typer.Option(help="http://HOST:8265; default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS."),
    ] = None,
    send_code: Annotated[
        bool | None,
        typer.Option(
            "--send-code/--no-send-code",
            help="Send this code, or use what the cluster has; default: send it if this is a checkout.",
        ),
    ] = None,
    send_keys: Annotated[
        bool,
        typer.Option(
            "--send-keys/--no-send-keys",
            help="Send the AWS keys that this environment has; hosts with a role of their own need none.",
        ),
    ] = True,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the job to its end, or come back at once.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and print, send nothing.")] = False,
) -> None:
    """Run a verb on a Ray cluster: check it here, print the `ray job submit`, do it, follow; its exit code.

    Example: mpm submit pretrain pretrain_base --data s3://bucket/windows --out s3://bucket/pretrained
    """
    from mpm_model.errors import InputError
    from pipelines.submit import Command, SubmitConfig, run

    verb, *arguments = command
    verbs = getattr(context.find_root().command, "commands", {})
    if verb not in verbs:
        raise InputError(f"{verb}: no such verb; there are {', '.join(verbs)}")
    # The verb's own parser: what it would refuse on the cluster, it refuses here.
    values = verbs[verb].make_context(verb, list(arguments), parent=context.parent).params
    config = SubmitConfig(
        address=address,
        sends_code=send_code,
        sends_keys=send_keys,
        is_dry_run=dry_run,
        waits=wait,
    )
    raise typer.Exit(
        run(
            Command(verb=verb, arguments=tuple(arguments), values=values),
            config=config,
            say=typer.echo,
            write=lambda text: typer.echo(text, nl=False),
        )
    )
