"""The revision scripts of a project: loaded once a run, asked what lies where."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from alembic.config import Config
from alembic.runtime.migration import MigrationStep, StampStep
from alembic.script import Script
from alembic.script.revision import CycleDetected, RevisionMap
from alembic.util import CommandError, to_tuple

from orchestrator.databases.secrets import NO_SECRETS, Secrets
from orchestrator.decision.state import ScriptLocations
from orchestrator.errors import ConfigurationError
from orchestrator.results import Mark, Revision
from orchestrator.revisions.application_logging import host_logging_kept
from orchestrator.revisions.config import AlembicProject
from orchestrator.revisions.forked import forked_children_ended
from orchestrator.revisions.script_directory import (
    config_of,
    directory_of,
    env_py_file,
    locations_of,
)
from orchestrator.revisions.script_errors import (
    beyond_the_end,
    explained,
    file_in_hand,
    walk_explained,
)


@dataclass(frozen=True, slots=True)
class Step:
    """A step as Alembic takes it; `revision` is None for a stamp, which runs nothing."""

    alembic: MigrationStep
    revision: Revision | None = None


class Scripts:
    """The script directory of an Alembic config.

    The methods of `ScriptDirectory` that have no public name (`_load_revisions`,
    `_upgrade_revs`, `_downgrade_revs`, `_stamp_revs`, and `_parse_upgrade_target` of its map)
    are called here and nowhere else; tried with Alembic 1.16 to 1.20.
    """

    def __init__(
        self,
        config: Config,
        fingerprint: Callable[[ScriptLocations], str] = lambda _: "",
        *,
        version_locations: Sequence[str] = (),
        secrets: Secrets = NO_SECRETS,
    ) -> None:
        self.config = config
        self._take_fingerprint = fingerprint
        self._secrets = secrets
        with explained(secrets=secrets):
            self.directory = directory_of(config, version_locations, secrets)
        self._given = self.directory.version_locations
        self.moved = False
        """Whether `env.py` has said where they lie, even if no other than was known."""
        self._load()

    def reload(self) -> None:
        """Load anew if `env.py` has changed where they lie: what it leaves is what counts.

        Raises `ConfigurationError` as making them does.
        """
        changed = self.locations() != self._loaded
        self.moved |= changed or self.directory.version_locations is not self._given
        if changed:
            self._load()

    @property
    def absent_locations(self) -> tuple[str, ...]:
        """The directories in which revisions are looked for, and which are not there."""
        looked_in = (str(path) for path in self.directory._version_locations)
        return tuple(path for path in looked_in if not os.path.isdir(path))

    @property
    def may_move(self) -> bool:
        """Whether `env.py` may change where they lie, as far as its text tells."""
        file = env_py_file(self.directory)
        return file is not None and b"version_locations" in file.read_bytes()

    def _load(self) -> None:
        with explained():
            self._loaded = self.locations()
            # Taken before the scripts are read: an edit in between is not missed.
            self.fingerprint = self._take_fingerprint(self._loaded)
        for remembered in ("_version_locations", "_singular_version_location"):
            vars(self.directory).pop(remembered, None)
        paths: dict[str, str] = {}
        self.directory.revision_map = RevisionMap(partial(self._read, paths))
        with explained(secrets=self._secrets, scripts_failed=True), forked_children_ended():
            try:
                self.heads: tuple[str, ...] = tuple(self.directory.get_heads())
            except CycleDetected as error:
                files = [paths[name] for name in error.revisions if name in paths]
                raise ConfigurationError(
                    f"Revision files are their own ancestors: "
                    f"{', '.join(files) or file_in_hand(error)}. {error}.",
                    setting="script_location",
                    scripts_failed=True,
                ) from error

    def _read(self, paths: dict[str, str]) -> Iterator[Script]:
        """The scripts, complete: Alembic only warns of a lost parent and of an id given twice."""
        scripts = list(self.directory._load_revisions())
        by_id: dict[str, Script] = {}
        for script in scripts:
            twin = by_id.setdefault(script.revision, script)
            if twin is not script:
                raise ConfigurationError(
                    f"Two revision files have the id {script.revision}: {twin.path} and "
                    f"{script.path}. Give one of them another id.",
                    scripts_failed=True,
                )
        paths.update((script.revision, script.path) for script in scripts)
        known = by_id.keys() | {label for script in scripts for label in script.branch_labels}
        for script in scripts:
            dependencies = to_tuple(script.dependencies, default=())
            for parent in (*to_tuple(script.down_revision, default=()), *dependencies):
                # An id may be shortened, in a file too.
                if parent not in known and not any(name.startswith(parent) for name in known):
                    raise ConfigurationError(
                        f"The revision file {script.path} names the parent {parent}, which no "
                        "revision file has. Get that file back, as from the branch that has it, "
                        "or correct the name.",
                        scripts_failed=True,
                    )
        return iter(scripts)

    def resolve(self, target: str, versions: Collection[str] = ()) -> tuple[str, ...]:
        """The revisions that a target stands for, relative ones from these versions.

        Raises `ConfigurationError` where there is no such revision, and where `head` could be
        several.
        """
        if not target:
            raise ConfigurationError(
                "The revision is an empty text. Name one, or `heads`.", setting="target"
            )
        if target == "heads":
            return self.heads
        if target == "head" and len(self.heads) > 1:
            raise ConfigurationError(
                f"The target `head` is not one revision: there are the heads "
                f"{', '.join(self.heads)}. Use `heads` for all of them, or name one.",
                setting="target",
                allowed=("heads", *self.heads),
            )
        with walk_explained(target, versions, self.heads):
            found = self.directory.revision_map._parse_upgrade_target(
                tuple(versions), target, assert_relative_length=True
            )
        if None in found or "base" in found:
            # Alembic walks off the end of a history without a word.
            raise beyond_the_end(target, self.heads)
        return tuple(revision.revision for revision in found if isinstance(revision, Script))

    def unknown(self, versions: Collection[str]) -> tuple[str, ...]:
        """Those of the version rows that no script has; a shortened id is not known."""
        return tuple(version for version in versions if self._get(version) is None)

    def missing(self, target: Sequence[str], versions: Collection[str]) -> tuple[str, ...]:
        """Those of the target's revisions that these versions have not reached."""
        if set(target) <= set(versions):
            return ()
        reached = self.ancestors(versions)
        return tuple(revision for revision in target if revision not in reached)

    def ancestors(self, versions: Collection[str]) -> set[str]:
        """These versions with all that they descend from or depend on; unknown ones aside."""
        known = tuple(version for version in versions if self._get(version) is not None)
        if not known:
            return set()
        return {script.revision for script in self.directory.iterate_revisions(known, "base")}

    def upgrade(self, target: str, versions: Sequence[str]) -> list[Step]:
        """What an upgrade of a database at these versions runs, in order."""
        with walk_explained(target, versions, self.heads):
            steps = self.directory._upgrade_revs(target, cast("str", tuple(versions)))
        return [Step(step, _named(step.revision)) for step in steps]

    def downgrade(self, target: str, versions: Sequence[str]) -> list[Step]:
        """What a downgrade of a database at these versions runs, in order."""
        with walk_explained(target, versions, self.heads):
            steps = self.directory._downgrade_revs(target, cast("str", tuple(versions)))
        return [Step(step, _named(step.revision)) for step in steps]

    def as_if_run(self, revision: str, versions: Sequence[str], *, down: bool) -> Step:
        """The step of one revision that runs nothing, and leaves its version rows."""
        steps = self.downgrade("base", versions) if down else self.upgrade(revision, versions)
        step = next(one for one in steps if one.revision and one.revision.revision == revision)

        def nothing(**_: object) -> None:
            pass

        step.alembic.migration_fn = nothing
        return Step(step.alembic)

    def is_done(self, mark: Mark, versions: Sequence[str] | None) -> bool:
        """Whether the version rows say that what was begun has ended; None: there is no table.

        A table that is not there says nothing: what was taken back may have dropped it.
        """
        if versions is None or self.unknown((mark.revision,)):
            return False  # nobody can tell
        return (mark.revision in self.ancestors(versions)) is not mark.down

    def stamp(self, target: str, versions: Sequence[str], *, purge: bool = False) -> list[Step]:
        """What sets the version rows to the target; `purge` takes every row away before.

        Alembic's own purge deletes before its transaction begins, so the rows are taken away
        by steps here, which ask nothing of scripts that may not exist.
        """
        steps: list[StampStep] = []
        if purge:
            removal = (
                StampStep(row, None, False, True, self.directory.revision_map) for row in versions
            )
            steps.extend(removal)
            versions = ()
        with walk_explained(target, versions, self.heads):
            steps.extend(self.directory._stamp_revs(target, tuple(versions)))
        return [Step(step) for step in steps]

    def pending(self, target: str, versions: Sequence[str]) -> tuple[Revision, ...]:
        """The revisions that an upgrade would run, in order."""
        return tuple(step.revision for step in self.upgrade(target, versions) if step.revision)

    def taken_back(self, target: str, versions: Sequence[str]) -> tuple[Revision, ...]:
        """The revisions that a downgrade would take back, in order."""
        return tuple(step.revision for step in self.downgrade(target, versions) if step.revision)

    def file_of(self, revision: str) -> str | None:
        """The path of a revision's file."""
        script = self._get(revision)
        return script.path if script else None

    def is_base(self, revision: Revision | None) -> bool:
        """Whether a history begins with this revision."""
        script = self._get(revision.revision) if revision is not None else None
        return script is not None and script.down_revision is None

    def locations(self) -> ScriptLocations:
        """Where everything lies that these scripts were made from."""
        return locations_of(self.config, self.directory)

    def _get(self, revision: str) -> Script | None:
        try:
            script = self.directory.get_revision(revision)
        except CommandError:
            return None
        # Alembic also finds a revision by the beginning of its id.
        return script if script and script.revision == revision else None


def load(
    project: AlembicProject,
    fingerprint: Callable[[ScriptLocations], str] = lambda _: "",
    *,
    secrets: Secrets = NO_SECRETS,
) -> Scripts:
    """Load the scripts of a project.

    Raises `ConfigurationError`, naming the file, where there is no
    script location, no `env.py`, or a revision file that cannot be imported or does not fit.
    What such a file raised is quoted without `secrets`.
    """
    config = config_of(project)
    # A revision file may import the application, and that may configure logging.
    with host_logging_kept():
        return Scripts(
            config, fingerprint, version_locations=project.version_locations, secrets=secrets
        )


def _named(script: Script) -> Revision:
    description = (script.doc or "").strip().splitlines()
    return Revision(revision=script.revision, description=description[0] if description else "")
