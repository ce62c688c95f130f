"""Pictures of the page in each state, for the documents: `make screenshots`.

From a real server and a real browser; the revisions wait until their picture is taken.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.asgi.test_page import BROWSERS, GATED, go, started
from tests.asgi.test_servers import Served, served
from tests.projects import Project, make_project

PICTURES: Final = Path(__file__).parents[2] / "docs" / "gate"
NAMES: Final = {
    1: ("a41f", "orders"),
    2: ("b83c", "invoices of an order"),
    3: ("c207", "an index for the search"),
    4: ("d9e0", "paid orders have a date"),
}
LOCAL: Final = ', details="local"'
WIDE: Final = {"width": 760, "height": 560}
NARROW: Final = {"width": 320, "height": 560}


def shop(path: Path, *, ends: str = "") -> Project:
    """Four revisions, each of which waits to be let go."""
    project = make_project(path)
    below = None
    for number, (name, about) in NAMES.items():
        body = GATED.format(number) + (ends if number == len(NAMES) - 1 else "")
        file = project.revision(name, below, body)
        file.write_text(file.read_text().replace(f"revision {name}", about, 1))
        below = name
    return project


@contextmanager
def at_revision(project: Project, number: int, *given: str, options: str = "") -> Iterator[Served]:
    """A server whose migration is at the revision of this number."""
    with served(project, *given, options=options) as server:
        for before in range(1, number):
            go(project, str(before))
        server.until(lambda: project.state.exists() and started(project, NAMES[number][0]))
        yield server
        for later in range(number, len(NAMES) + 1):
            go(project, str(later))


class Camera:
    """Takes pictures of an address, in light and dark."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def take(
        self,
        server: Served,
        name: str,
        ready: Callable[[Page], object],
        *,
        scheme: str = "light",
        size: dict[str, int] = WIDE,
    ) -> None:
        context = self._browser.new_context(color_scheme=scheme, viewport=size)
        page = context.new_page()
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.goto(server.address)
        ready(page)
        # Where it was taken is nobody's business.
        page.locator("#detail").evaluate(
            "(node, path) => { node.textContent = node.textContent.replaceAll(path, '/srv/shop') }",
            str(server.project.path),
        )
        page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
        context.close()


def take_all(camera: Camera, directory: Path) -> None:
    """Every state, one after the other."""

    def titled(title: str) -> Callable[[Page], None]:
        return lambda page: expect(page.locator("h1")).to_have_text(title)

    upgrading = titled("The database is being upgraded")
    with at_revision(shop(directory / "public"), 3, "--workers", "2") as server:
        camera.take(server, "migrating", upgrading)
        camera.take(server, "migrating-dark", upgrading, scheme="dark")
        camera.take(server, "migrating-narrow", upgrading, size=NARROW)
    with at_revision(shop(directory / "local"), 3, options=LOCAL) as server:
        camera.take(server, "migrating-local", upgrading)
    failing = shop(directory / "failing", ends="raise ValueError('no such column: orders.paid')")
    with at_revision(failing, 1, options=LOCAL) as server:
        for number in NAMES:
            go(failing, str(number))
        server.until(lambda: (server.get("/readyz")[1] or {}).get("status") == "failed")
        camera.take(server, "failed-local", titled("The upgrade has failed"))
    pending = shop(directory / "pending")
    options = ", development=True"
    with served(pending, options=options, ORCHESTRATOR_MODE="require") as server:
        server.until(lambda: (server.get("/readyz")[1] or {}).get("status") == "pending")
        camera.take(server, "pending", titled("The database is not up to date"))


def main() -> None:
    """Write them into the documents."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit("Chromium is not installed (Debian: chromium).")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for name in ("public", "local", "failing", "pending"):
            (Path(directory) / name).mkdir()
        take_all(Camera(browser), Path(directory))
        browser.close()


if __name__ == "__main__":
    main()
