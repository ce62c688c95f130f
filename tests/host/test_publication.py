"""The leader's record, kept fresh for those who wait."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from orchestrator.events import RevisionStarted, TaskStarted
from orchestrator.host.publication import Publication
from orchestrator.host.record import Record, RecordFile
from orchestrator.results import ErrorReport, Holder

pytestmark = pytest.mark.anyio
DEADLINE_SECONDS = 30


class CountingFile(RecordFile):
    """A record file that counts its changes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        super().write(record)
        if not self.records or self.records[-1] != record:
            self.records.append(record)


@pytest.fixture
def file(tmp_path: Path) -> CountingFile:
    return CountingFile(tmp_path / "run.json")


def publish(file: RecordFile, warnings: list[str] | None = None) -> Publication:
    return Publication(
        file,
        Holder(
            run_id="a1",
            host=socket.gethostname(),
            pid=os.getpid(),
            command="run",
            since=datetime.now(UTC),
            release="1.2",
        ),
        target="heads",
        settings="s1",
        warn=(warnings if warnings is not None else []).append,
    )


def revision(name: str) -> RevisionStarted:
    return RevisionStarted(task="upgrade", revision=name, description="", position=1, total=1)


def on_disk(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "run.json").read_text())


async def test_who_leads_is_told_at_once(file: CountingFile, tmp_path: Path) -> None:
    """Before anything is done: host, pid, release, command; and no outcome."""
    publish(file)
    told = on_disk(tmp_path)
    assert told["outcome"] is None
    assert told["fingerprint"] is None
    holder = told["holder"]
    assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
    assert (holder["run_id"], holder["release"], holder["command"]) == ("a1", "1.2", "run")


async def test_the_end_is_told_at_once(file: CountingFile, tmp_path: Path) -> None:
    """With the error, and where the work was, whether or not that had been written."""
    publication = publish(file)
    publication.scripts_found("f1")
    publication(TaskStarted(task="upgrade"))
    publication(revision("r2"))
    error = ErrorReport(type="TaskFailed", message="no", exit_code=1)
    publication.end("failed", error, scripts_failed=True)
    told = on_disk(tmp_path)
    assert (told["outcome"], told["error"]["message"]) == ("failed", "no")
    assert (told["settings"], told["fingerprint"], told["scripts_failed"]) == ("s1", "f1", True)
    assert told["holder"]["revision"] == "r2"


async def test_a_long_message_is_cut(file: CountingFile) -> None:
    """So that the record can be read, and the failure adopted, whatever the statement was."""
    publication = publish(file)
    publication.end("failed", ErrorReport(type="TaskFailed", message="x" * 9**7, exit_code=1))
    record = file.read()
    assert record is not None
    assert record.error is not None
    assert 1000 < len(record.error.message) < 200_000


async def test_at_most_ten_times_a_second(file: CountingFile) -> None:
    """However many revisions begin, the file is written at the interval, and at the end."""
    publication = publish(file)
    began = anyio.current_time()
    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publication.keep_fresh)
            number = 0
            while len(file.records) < 4:
                number += 1
                publication(revision(f"r{number}"))
                await anyio.sleep(0.002)
            assert anyio.current_time() - began >= 0.29
            publication.end("ready")
    assert number > len(file.records)
    assert file.records[-1].outcome == "ready"


async def test_nothing_is_written_after_the_end(file: CountingFile) -> None:
    """The outcome stands, whatever `keep_fresh` was about to do."""
    publication = publish(file)
    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publication.keep_fresh)
            await checkpoint()
            publication(revision("r1"))
            publication.end("ready")
    assert [record.outcome for record in file.records] == [None, "ready"]


async def test_a_record_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """It is told once, however often it fails."""
    (tmp_path / "run.json").mkdir()
    warnings: list[str] = []
    publication = publish(RecordFile(tmp_path / "run.json"), warnings)
    publication(revision("r1"))
    publication.end("ready")
    assert len(warnings) == 1
    assert "record of this run could not be written" in warnings[0]
