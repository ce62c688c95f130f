"""The page of the gate in a real browser."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.asgi.test_servers import Served, served, waiting
from tests.projects import Project

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GATED = """
import pathlib
while not (pathlib.Path(__file__).parents[2] / "go{}").exists():
    time.sleep(0.01)
"""
LOCAL = ', details="local"'

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the distribution, without a display."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        assert not os.environ.get("CI"), "Chromium is not installed: `.ci/run` does it"
        pytest.skip("Chromium is not installed (Debian: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A page, and what it should not do: complain, or ask somebody else."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.address = address
        self._context = browser.new_context(**options)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        # A status of 503 is told as an error, and is none here.
        self.page.on(
            "console",
            lambda said: (
                self.complaints.append(said.text)
                if said.type in ("error", "warning") and "status of 503" not in said.text
                else None
            ),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))

    def close(self) -> None:
        self._context.close()
        assert self.complaints == []
        assert all(url.startswith((self.address, "data:")) for url in self.asked), self.asked


@contextmanager
def looking(browser: Browser, server: Served, **options: Any) -> Iterator[Page]:
    watched = Watched(browser, server.address, **options)
    watched.page.goto(server.address)
    yield watched.page
    watched.close()


def accessible(page: Page) -> None:
    """No rule of axe-core's is broken."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def go(project: Project, name: str) -> None:
    (project.path / f"go{name}").touch()


@pytest.fixture
def upgraded(project: Project) -> Project:
    """Three revisions, each of which waits to be let go."""
    for number in (1, 2, 3):
        below = f"r{number - 1}" if number > 1 else None
        project.revision(f"r{number}", below, GATED.format(number))
    return project


def started(project: Project, revision: str) -> bool:
    return any(
        line["event"] == "revision_started" and line["revision"] == revision
        for line in project.journal()
    )


def done(server: Served) -> Any:
    return (server.get("/readyz")[1] or {}).get("revisions_done")


def test_it_shows_the_work_and_becomes_the_application(browser: Browser, upgraded: Project) -> None:
    """Live, over several revisions, without a click; names to nobody."""
    with served(upgraded) as server:
        server.until(lambda: server.get("/livez")[0] == 200 and started(upgraded, "r1"))
        with looking(browser, server) as page:
            title, bar = page.locator("h1"), page.get_by_role("progressbar")
            expect(title).to_have_text("The database is being upgraded")
            for done in (0, 1, 2):
                expect(bar).to_have_attribute("aria-valuenow", str(done))
                expect(page.locator("main")).to_contain_text(f"{done} of 3")
                assert not any(name in page.content() for name in ("r1", "revision r", "app.db"))
                if not done:
                    accessible(page)
                go(upgraded, str(done + 1))
            expect(page.locator("body")).to_contain_text('{"pid"', timeout=20_000)


def test_two_workers_tell_the_same(browser: Browser, upgraded: Project) -> None:
    """Also who waits for another process shows how far that is."""
    with served(upgraded, "--workers", "2") as server:
        server.until(lambda: upgraded.state.exists() and waiting(upgraded) == 1)
        go(upgraded, "1")
        server.until(lambda: started(upgraded, "r2"))
        server.until(lambda: all(done(server) == 1 for _ in range(8)))
        for _ in range(3):
            with looking(browser, server) as page:
                expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "1")
                expect(page.locator("main")).to_contain_text("1 process waits")
        go(upgraded, "2")
        go(upgraded, "3")
        with looking(browser, server) as page:
            expect(page.locator("body")).to_contain_text('{"pid"', timeout=20_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_are_for_this_machine(browser: Browser, upgraded: Project, scheme: str) -> None:
    """With `details="local"`: the revisions with their times, and what runs."""
    with served(upgraded, options=LOCAL) as server:
        go(upgraded, "1")
        server.until(lambda: server.get("/livez")[0] == 200 and started(upgraded, "r2"))
        narrow = {"width": 320, "height": 640}
        with looking(browser, server, color_scheme=scheme, viewport=narrow) as page:
            rows = page.locator("#revisions li")
            expect(rows).to_have_count(3)
            expect(rows.nth(0)).to_contain_text("revision r1 r1")
            expect(rows.nth(1)).to_have_class("now")
            accessible(page)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width == narrow["width"]
        go(upgraded, "2")
        go(upgraded, "3")


@pytest.mark.parametrize("options", ["", LOCAL])
def test_a_failure(browser: Browser, project: Project, options: str) -> None:
    """It is told; why, only where names may be told; what was rolled back is not called done."""
    project.chain(2)
    project.revision("r3", "r2", "raise ValueError('s3cret words')")
    with served(project, options=options) as server:
        server.until(lambda: (server.get("/readyz")[1] or {}).get("status") == "failed")
        with looking(browser, server) as page:
            expect(page.locator("h1")).to_have_text("The upgrade has failed")
            expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "0")
            assert ("s3cret words" in page.content()) is bool(options)
            accessible(page)


REQUIRE = {"ORCHESTRATOR_MODE": "require"}


def test_in_development_a_button_migrates(browser: Browser, upgraded: Project) -> None:
    """It lists what is pending and what goes; then the page shows the work, and turns into it."""
    go(upgraded, "1")
    assert upgraded.run("upgrade", "r1").code == 0
    upgraded.revision("r4", "r3", "op.drop_table('t_r0')")
    with sqlite3.connect(upgraded.database) as connection:
        connection.execute("CREATE TABLE t_r0 (id INTEGER)")
    with served(upgraded, options=", development=True", **REQUIRE) as server:
        server.until(lambda: (server.get("/readyz")[1] or {}).get("status") == "pending")
        with looking(browser, server) as page:
            expect(page.locator("h1")).to_have_text("The database is not up to date")
            expect(page.locator("#revisions li")).to_have_count(4)
            expect(page.locator("#revisions li").nth(2)).to_contain_text("revision r4 r4")
            expect(page.locator("#revisions .bad")).to_contain_text("table t_r0 (r4)")
            accessible(page)
            button = page.get_by_role("button", name="Migrate now")
            button.focus()
            page.keyboard.press("Enter")
            expect(page.locator("main")).to_contain_text("0 of 3")
            go(upgraded, "2")
            go(upgraded, "3")
            expect(page.locator("body")).to_contain_text('{"pid"', timeout=20_000)


def test_in_development_it_may_be_tried_again(browser: Browser, project: Project) -> None:
    """What has failed is told, and asked for once more when it is mended by other means."""
    project.chain(1)
    mends = "import pathlib\nif not (pathlib.Path(__file__).parents[2] / 'go1').exists():\n"
    project.revision("r2", "r1", f"{mends}    raise ValueError('not yet')")
    with served(project, options=", development=True", **REQUIRE) as server:
        server.until(lambda: (server.get("/readyz")[1] or {}).get("status") == "pending")
        with looking(browser, server) as page:
            page.get_by_role("button", name="Migrate now").click()
            expect(page.locator("h1")).to_have_text("The upgrade has failed")
            expect(page.locator("#detail")).to_contain_text("not yet")
            go(project, "1")
            page.get_by_role("button", name="Try again").click(timeout=10_000)
            expect(page.locator("body")).to_contain_text('{"pid"', timeout=20_000)


def test_without_scripts(browser: Browser, upgraded: Project) -> None:
    """What is the matter, and it asks again by itself."""
    with served(upgraded) as server:
        server.until(lambda: server.get("/livez")[0] == 200 and started(upgraded, "r1"))
        with looking(browser, server, java_script_enabled=False) as page:
            expect(page.locator("h1")).to_have_text("The database is being upgraded")
            for number in "123":
                go(upgraded, number)
            expect(page.locator("body")).to_contain_text('{"pid"', timeout=20_000)


def test_a_server_that_ends_with_streams_open(browser: Browser, upgraded: Project) -> None:
    """By uvicorn's own defaults: each stream ends, and then the server does."""
    with served(upgraded) as server:
        server.until(lambda: server.get("/livez")[0] == 200 and started(upgraded, "r1"))
        watched = Watched(browser, server.address)
        watched.page.goto(server.address)
        expect(watched.page.locator("h1")).to_have_text("The database is being upgraded")
        go(upgraded, "1")
        expect(watched.page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "1")
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: "Waiting for application shutdown" in server.log)
        go(upgraded, "2")
        server.wait()
        watched._context.close()
    assert "Traceback" not in server.log, server.log
