"""Alembic's own commands for revision files: revision, merge, edit, history, heads, current."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orchestrator.cli import options
from orchestrator.cli.making import make_orchestrator
from orchestrator.cli.output import (
    INTERRUPTED,
    errors_reported,
    plainly,
    stderr,
    stdout_kept_clean,
    visible,
)

if TYPE_CHECKING:
    from orchestrator.run.authoring import HandedOver

_NOT_AT_HEADS: Final = 6
_COMPARES: Final = "alembic.autogenerate"
"""The logger by which Alembic tells what it finds."""


def _a_range(given: str | None) -> str | None:
    if given is not None and given.count(":") != 1:
        raise typer.BadParameter("it must read START:END, START: or :END")
    return given


Message = Annotated[
    str | None,
    typer.Option(
        "--message", "-m", help="What it does, for the file and its name.", metavar="TEXT"
    ),
]
BranchLabel = Annotated[
    str | None,
    typer.Option(help="A label for the branch that begins with it.", metavar="LABEL"),
]
RevId = Annotated[
    str | None,
    typer.Option(help="Its id, in place of a random one.", metavar="ID"),
]
More = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Tell more of each revision, and the traceback of an error."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (revision, merge, edit, history, heads, current):
        app.command()(options.expanded(command))


def revision(
    where: options.Where,
    *,
    message: Message = None,
    autogenerate: Annotated[
        bool,
        typer.Option(
            "--autogenerate",
            help="Fill it with what differs between the models and the database, which has to be "
            "at its heads. Read it before you run it.",
        ),
    ] = False,
    sql: Annotated[
        bool,
        typer.Option(
            "--sql", help="Run env.py offline, where `revision_environment` lets it be run."
        ),
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(
            help="What it follows: a revision, BRANCH@head, or base for a new history. "
            "Default: the head.",
            metavar="REV",
        ),
    ] = None,
    splice: Annotated[
        bool, typer.Option("--splice", help="Let it follow a revision that is no head: a branch.")
    ] = False,
    branch_label: BranchLabel = None,
    version_path: Annotated[
        str | None,
        typer.Option(help="Which of several version directories it is for.", metavar="DIRECTORY"),
    ] = None,
    rev_id: RevId = None,
    depends_on: Annotated[
        list[str] | None,
        typer.Option(
            help="A revision of another branch that has to run before. May be given often.",
            metavar="REV",
        ),
    ] = None,
    verbose: options.Verbose = False,
) -> None:
    """Write a new revision file, as `alembic revision` does; the database is left as it is.

    With `--autogenerate` none is written where nothing differs.
    """
    done = _hand_over(
        where,
        "revision",
        {
            "message": message,
            "autogenerate": autogenerate,
            "sql": sql,
            "head": head,
            "splice": splice,
            "branch_label": branch_label,
            "version_path": version_path,
            "rev_id": rev_id,
            "depends_on": depends_on or None,
        },
        verbose=verbose,
    )
    if autogenerate and not done.returned:
        _warn(
            "The database is as the models say, so no revision was written. For an empty one, "
            "leave out --autogenerate."
        )


def merge(
    where: options.Where,
    *,
    revisions: Annotated[
        list[str], typer.Argument(metavar="REV", help="The revisions, or heads for all heads.")
    ],
    message: Message = None,
    branch_label: BranchLabel = None,
    rev_id: RevId = None,
    splice: Annotated[
        bool, typer.Option("--splice", help="Let it follow revisions that are no heads: a branch.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a revision file that joins several heads, as `alembic merge` does."""
    given = {"message": message, "branch_label": branch_label, "rev_id": rev_id, "splice": splice}
    _hand_over(where, "merge", given, arguments={"revisions": revisions}, verbose=verbose)


def edit(
    where: options.Where,
    *,
    revision: Annotated[
        str, typer.Argument(metavar="REV", help="A revision, head, or current: the database's.")
    ],
    verbose: options.Verbose = False,
) -> None:
    """Open a revision file in $EDITOR, as `alembic edit` does."""
    # An editor needs the terminal, which it may look for at stdout.
    around = nullcontext
    _hand_over(where, "edit", {}, arguments={"rev": revision}, verbose=verbose, around=around)


def history(
    where: options.Where,
    *,
    rev_range: Annotated[
        str | None,
        typer.Option(
            "--rev-range",
            "-r",
            help="From where to where: START:END, START: or :END; revisions, current, or -3 of it.",
            metavar="RANGE",
            callback=_a_range,
        ),
    ] = None,
    indicate_current: Annotated[
        bool, typer.Option("--indicate-current", "-i", help="Mark where the database is.")
    ] = False,
    verbose: More = False,
) -> None:
    """List the revisions, newest first, as `alembic history` does."""
    given = {"rev_range": rev_range, "verbose": verbose, "indicate_current": indicate_current}
    _hand_over(where, "history", given, verbose=verbose)


def heads(
    where: options.Where,
    *,
    resolve_dependencies: Annotated[
        bool,
        typer.Option(
            "--resolve-dependencies", help="Leave out those that another revision depends on."
        ),
    ] = False,
    verbose: More = False,
) -> None:
    """List the newest revisions of the scripts, as `alembic heads` does."""
    given = {"verbose": verbose, "resolve_dependencies": resolve_dependencies}
    _hand_over(where, "heads", given, verbose=verbose)


def current(
    where: options.Where,
    *,
    check_heads: Annotated[
        bool,
        typer.Option(
            "--check-heads", "-c", help="Exit with 6 if the database is not at all heads."
        ),
    ] = False,
    verbose: More = False,
) -> None:
    """Show which revisions the database is at, as `alembic current` does."""
    # Alembic's own check counts a revision that another depends on as missing (1.20).
    given = {"check_heads": False, "verbose": verbose}
    done = _hand_over(where, "current", given, verbose=verbose)
    if any(seen.state == "absent" for seen in done.observations):
        _warn("The database does not exist yet.")
    lacking = [one for seen in done.observations for one in seen.missing]
    if check_heads and lacking:
        _warn(f"The database lacks {', '.join(lacking)}. `{done.upgrade}` brings it there.")
        raise typer.Exit(_NOT_AT_HEADS)


def _hand_over(
    where: options.Where,
    name: str,
    given: Mapping[str, Any],
    *,
    verbose: bool,
    arguments: Mapping[str, Any] | None = None,
    around: Callable[[], AbstractContextManager[object]] = stdout_kept_clean,
) -> HandedOver:
    """Run a command of Alembic's to its end; leave with the exit code of its error."""
    from orchestrator.run.authoring import Authoring, Output  # no run needs it

    output = Output()
    with errors_reported(as_json=False, verbose=verbose) as hiding:
        orchestrator = make_orchestrator(where)
        hiding.append(orchestrator.resources.hide)
        try:
            with _comparison_told():
                authoring = Authoring(orchestrator.resources, output=output, around=around)
                return authoring.hand_over(name, arguments or {}, given)
        except KeyboardInterrupt:
            stderr().print("Stopped.")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            print(visible(output.getvalue()), end="")
    raise AssertionError("an error that is reported ends the command")


def _warn(text: str) -> None:
    stderr().print(f"[yellow]warning[/]: {plainly(text)}")


@contextmanager
def _comparison_told() -> Iterator[None]:
    """Tell on stderr what Alembic finds to be different, as its own alembic.ini has it told."""
    logger, handler = logging.getLogger(_COMPARES), _Told()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        stderr().print(plainly(record.getMessage()), style="dim")
