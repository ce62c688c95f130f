"""The gate: the server serves at once, and the application only on what is migrated."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from asgi_lifespan import LifespanManager
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from orchestrator import ConfigurationError, Orchestrator, Settings
from orchestrator.asgi import Gate
from orchestrator.events import Event, RevisionStarted
from tests.projects import Project

pytestmark = pytest.mark.anyio

WAITS = 'from alembic import context\ncontext.config.attributes["go"].wait(60)'


@pytest.fixture
def project(project: Project) -> Project:
    """A project whose `env.py` imports nothing of it: it runs in this process."""
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )
    return project


class Application:
    """An application that takes down what becomes of it."""

    def __init__(self, *, broken: bool = False) -> None:
        self.story: list[str] = []
        self._broken = broken
        routes = [Route("/", self._home), WebSocketRoute("/ws", self._talk)]
        self.app = Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[dict[str, Any]]:
        self.story.append("enter")
        if self._broken:
            raise RuntimeError("no broker")
        yield {"mine": 7}
        self.story.append("leave")

    async def _home(self, request: Request) -> JSONResponse:
        self.story.append("request")
        state = request.state
        return JSONResponse({"versions": state.migration.versions, "mine": state.mine})

    async def _talk(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()


class Place:
    """A project whose revision `slow` waits for `go`, and what is made of it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.go = threading.Event()
        self.application = Application()

    def orchestrator(self, **settings: Any) -> Orchestrator:
        given = {
            "database_url": self.project.url,
            "script_location": str(self.project.path / "migrations"),
            "log": "off",
            **settings,
        }
        return Orchestrator(Settings(**given), attributes={"go": self.go})

    def gate(self, orchestrator: Orchestrator | None = None, **options: Any) -> Gate:
        return Gate(self.application.app, orchestrator or self.orchestrator(), **options)

    def slow(self) -> Path:
        self.project.chain(1)
        return self.project.revision("slow", "r1", WAITS)


@pytest.fixture
def place(project: Project) -> Place:
    return Place(project)


@asynccontextmanager
async def served(gate: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, between its startup and its shutdown."""
    async with (
        LifespanManager(gate, startup_timeout=30, shutdown_timeout=30) as manager,
        client(manager.app) as made,
    ):
        yield made


def client(app: Any, address: str = "203.0.113.7") -> AbstractAsyncContextManager[Any]:
    transport = httpx.ASGITransport(app=app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def until(gate: Gate, *, opened: bool = True, phase: str | None = None) -> None:
    """Wait until the gate is open, or its run is at that."""
    with anyio.fail_after(30):
        while gate.is_open is not opened or phase not in (None, gate.start.board.own.phase):  # noqa: ASYNC110 - what it waits for is no event
            await anyio.sleep(0.01)


async def until_at(gate: Gate, revision: str) -> None:
    """Wait until its own run is at that revision."""
    with anyio.fail_after(30):
        while gate.start.board.own.revision != revision:  # noqa: ASYNC110 - it is no event
            await anyio.sleep(0.01)


async def test_it_answers_while_it_migrates(place: Place) -> None:
    """Alive, not ready, and nobody is let in; the application's lifespan comes after."""
    place.slow()
    gate = place.gate()
    async with served(gate) as http:
        await until(gate, opened=False, phase="migrating")
        alive, ready, other = [await http.get(path) for path in ("/livez", "/readyz", "/")]
        head = await http.head("/readyz")
        post = await http.post("/livez")
        assert (alive.status_code, ready.status_code, other.status_code) == (200, 503, 503)
        assert ready.json()["status"] == other.json()["status"] == "migrating"
        assert (head.status_code, head.content) == (503, b"")
        assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")
        assert int(other.headers["retry-after"]) > 0
        assert other.headers["cache-control"] == "no-store"
        assert place.application.story == []
        place.go.set()
        await until(gate)
        assert place.application.story == ["enter"]
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        home = await http.get("/")
        assert home.json() == {"versions": ["slow"], "mine": 7}
        assert (await http.post("/readyz")).status_code == 405
    assert place.application.story == ["enter", "request", "leave"]


async def test_how_far_it_is(place: Place) -> None:
    """So many of so many: to everybody; the names only to who is on this machine."""
    place.slow()
    gate = place.gate(details="local")
    async with served(gate) as http:
        await until(gate, opened=False, phase="migrating")
        await until_at(gate, "slow")
        public = (await http.get("/readyz")).json()
        async with client(gate, "127.0.0.1") as near:
            local = (await near.get("/readyz")).json()
            proxied = (await near.get("/readyz", headers={"X-Forwarded-For": "1.2.3.4"})).json()
            rebound = (await near.get("/readyz", headers={"Host": "evil.example"})).json()
        place.go.set()
        await until(gate)
    words = {"status", "title", "message"}
    assert set(public) == words | {
        "elapsed_seconds",
        "revisions_done",
        "revisions_total",
        "waiting",
    }
    assert (public["revisions_done"], public["revisions_total"]) == (1, 2)
    assert set(proxied) == set(rebound) == set(public)
    assert (local["revision"], local["description"]) == ("slow", "revision slow")


async def test_a_failure_keeps_it_closed(place: Place) -> None:
    """Alive all the same; why is told to nobody who is not on this machine."""
    place.project.revision("r1", None, "raise ValueError('s3cret words')")
    gate = place.gate(details="local")
    async with served(gate) as http:
        await until(gate, opened=False, phase="failed")
        assert (await http.get("/livez")).status_code == 200
        ready = await http.get("/readyz")
        async with client(gate, "127.0.0.1") as near:
            local = (await near.get("/readyz")).json()
    assert ready.status_code == 503
    assert ready.json()["status"] == "failed"
    assert "s3cret" not in ready.text
    assert "s3cret words" in local["error"]
    assert place.application.story == []


async def test_a_failure_may_be_tried_again(place: Place) -> None:
    """After `retry_after_seconds`, until the database is at its target."""
    broken = place.project.revision("r1", None, "raise ValueError('not yet')")
    gate = place.gate(retry_after_seconds=0.05)
    async with served(gate) as http:
        await until(gate, opened=False, phase="failed")
        broken.unlink()
        place.project.chain(2)
        await until(gate)
        assert (await http.get("/")).json()["versions"] == ["r2"]


async def test_a_run_at_work_ends_with_its_revision(place: Place) -> None:
    """A shutdown in its middle: the revision is finished and kept, the next one is not begun."""
    place.slow()
    place.project.revision("r3", "slow")
    gate = place.gate()

    async def stop() -> None:
        async with served(gate):
            await until_at(gate, "slow")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        await until_at(gate, "slow")
        while not gate.start.is_closing:  # noqa: ASYNC110 - it is no event
            await anyio.sleep(0.01)
        place.go.set()
    assert place.application.story == []
    assert (await place.orchestrator().inspect()).versions == ("slow",)


async def test_a_run_that_waits_ends_at_once(place: Place) -> None:
    """A shutdown while somebody else migrates."""
    place.slow()
    leading, gate = place.orchestrator(), place.gate()
    async with leading.start() as leader:
        with anyio.fail_after(30):
            async for event in leader.events():
                if isinstance(event, RevisionStarted) and event.revision == "slow":
                    break
        with anyio.fail_after(10):
            async with served(gate) as http:
                await until(gate, opened=False, phase="waiting")
                with anyio.fail_after(10):
                    while (told := (await http.get("/readyz")).json())["status"] == "waiting":  # noqa: ASYNC110 - the same
                        await anyio.sleep(0.02)
                assert (told["status"], told["waiting"]) == ("migrating", 1)
                assert (told["revisions_done"], told["revisions_total"]) == (1, 2)
        place.go.set()


async def test_who_waited_tells_the_failure_of_the_other(place: Place) -> None:
    """How far that has come, and why it failed, in its own words."""
    place.slow()
    place.project.revision("r3", "slow", "raise ValueError('bad words')")
    first, second = place.gate(details="local"), place.gate(details="local")
    async with served(first), served(second):
        await until(first, opened=False)
        for gate in (first, second):
            with anyio.fail_after(10):
                while gate.start.board.own.phase == "starting":  # noqa: ASYNC110 - it is no event
                    await anyio.sleep(0.01)
        place.go.set()
        told = []
        for gate in (first, second):
            await until(gate, opened=False, phase="failed")
            async with client(gate, "127.0.0.1") as near:
                told.append((await near.get("/readyz")).json())
    for name in ("status", "revisions_total", "revision", "error"):
        assert told[0][name] == told[1][name]
    assert "bad words" in told[0]["error"]


async def test_all_open_when_one_has_migrated(place: Place) -> None:
    """Those who waited open with the one that led."""
    place.slow()
    gates = [place.gate(), place.gate()]
    async with served(gates[0]), served(gates[1]):
        await until(gates[0], opened=False)
        place.go.set()
        for gate in gates:
            await until(gate)


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
async def test_a_proxy_is_not_this_machine(place: Place, header: str) -> None:
    """One that says for whom it speaks; nor is a client without an address."""
    place.project.revision("r1", None, "raise ValueError('s3cret words')")
    gate = place.gate(details="local")
    async with served(gate), client(gate, "127.0.0.1") as near:
        await until(gate, opened=False, phase="failed")
        assert "s3cret" in (await near.get("/readyz")).text
        told = (await near.get("/readyz", headers={header: "192.0.2.7"})).text
        assert "s3cret" not in told
        async with client(gate, "::ffff:192.0.2.7") as far:
            assert "s3cret" not in (await far.get("/readyz")).text


@pytest.mark.parametrize(
    ("host", "headers", "sent"),
    [
        ("127.0.0.1", {}, ""),
        ("127.0.0.1", {}, "wrong"),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.7"}, "right"),
        ("127.0.0.1", {"host": "rebound.example"}, "right"),
        ("192.0.2.7", {}, "right"),
    ],
)
async def test_nobody_else_asks_for_a_migration(
    place: Place, host: str, headers: dict[str, str], sent: str
) -> None:
    """Only the page that the gate itself has given to a client on this machine."""
    place.project.chain(1)
    gate = place.gate(place.orchestrator(mode="require"), development=True)
    async with served(gate), client(gate, host) as http:
        await until(gate, opened=False, phase="pending")
        page = await http.get("/", headers={"accept": "text/html", **headers})
        token = {"": "", "wrong": "x" * 43, "right": gate._token}[sent]
        assert (gate._token in page.text) is (not headers and host == "127.0.0.1")
        for path in ("/", "/readyz"):
            asked = await http.post(path, headers={"x-orchestrator-migrate": token, **headers})
            assert asked.status_code in (405, 503)
        assert not gate.start._asked.is_set()
    assert not place.project.database.exists()


async def test_the_page_asks_for_a_migration(place: Place) -> None:
    """Once what is pending is offered; without `development` nothing is."""
    place.project.chain(1)
    gate = place.gate(place.orchestrator(mode="require"), development=True)
    async with served(gate), client(gate, "127.0.0.1") as http:
        await until(gate, opened=False, phase="pending")
        told = (await http.get("/readyz")).json()
        assert [one["revision"] for one in told["pending"]] == ["r1"]
        assert gate._token not in str(told)
        asked = await http.post("/readyz", headers={"x-orchestrator-migrate": gate._token})
        assert asked.status_code == 202
        await until(gate)
        assert (await http.get("/")).json()["versions"] == ["r1"]


async def test_nothing_is_offered_by_default(place: Place) -> None:
    """Nor where there is nothing that a run would do."""
    place.project.chain(1)
    gate = place.gate(place.orchestrator(mode="require"), details="local")
    async with served(gate), client(gate, "127.0.0.1") as http:
        await until(gate, opened=False, phase="failed")
        assert "pending" not in (await http.get("/readyz")).json()
        posted = await http.post("/", headers={"x-orchestrator-migrate": ""})
        assert posted.status_code == 503


async def test_what_is_offered_is_left_at_a_shutdown(place: Place) -> None:
    """Nothing is migrated, and the server ends at once."""
    place.project.chain(1)
    gate = place.gate(place.orchestrator(mode="require"), development=True)
    with anyio.fail_after(10):
        async with served(gate):
            await until(gate, opened=False, phase="pending")
    assert not place.project.database.exists()


async def test_a_server_without_a_lifespan(place: Place) -> None:
    """The first request starts the run; the application gets no lifespan either."""
    place.project.chain(1)
    gate = place.gate()
    async with client(gate) as http:
        assert (await http.get("/livez")).status_code == 200
        await until(gate)
        assert (await http.get("/readyz")).status_code == 200
    assert place.application.story == []


async def test_an_application_without_a_lifespan(place: Place) -> None:
    """One that raises when it is asked: it is served all the same."""
    place.project.chain(1)

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        versions = scope["state"]["migration"].versions
        await JSONResponse(versions)(scope, receive, send)

    gate = Gate(bare, place.orchestrator())
    async with served(gate) as http:
        await until(gate)
        assert (await http.get("/")).json() == ["r1"]


async def test_an_application_that_does_not_start(place: Place) -> None:
    """The gate stays closed where that is wanted; what it says is for the log alone."""
    place.project.chain(1)
    place.application = Application(broken=True)
    gate = place.gate(on_startup_failure="closed")
    async with served(gate) as http:
        await until(gate, opened=False, phase="startup_failed")
        ready = await http.get("/readyz")
        assert (ready.status_code, "broker" in ready.text) == (503, False)
    assert place.application.story == ["enter"]


async def test_a_shutdown_while_the_application_starts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has not come to an end of that in time is left; the server ends."""
    monkeypatch.setattr("orchestrator.asgi.inner._STARTING_SECONDS", 0.1)
    place.project.chain(1)
    story: list[str] = []

    @asynccontextmanager
    async def hangs(_: Starlette) -> AsyncIterator[None]:
        story.append("starts")
        try:
            await anyio.sleep_forever()
            yield
        finally:
            story.append("left")

    gate = Gate(Starlette(lifespan=hangs), place.orchestrator())
    with anyio.fail_after(20):
        async with served(gate):
            await until(gate, opened=False, phase="opening")
            while not story:  # noqa: ASYNC110 - it is no event
                await anyio.sleep(0.01)
    assert story == ["starts", "left"]
    assert not gate.is_open


async def test_a_damaged_journal_is_passed_over(place: Place) -> None:
    """Whatever stands in it, the gate tells what it knows, and opens."""
    place.slow()
    gate = place.gate(details="local")
    async with served(gate), client(gate, "127.0.0.1") as near:
        await until_at(gate, "slow")
        [origin] = {line["database"] for line in place.project.journal()}
        begun = {"run_id": "x", "database": origin, "at": "2026-01-01T00:00:00"}
        with (place.project.state / "journal.jsonl").open("a") as journal:
            for number, line in enumerate(
                (
                    {"event": "plan_made", "tasks": [], "revisions": 5},
                    {"event": "lock_waiting", "lock": "file", "holder": "x", "waited_seconds": 1},
                    {
                        "event": "revision_started",
                        "task": "upgrade",
                        "revision": ["a"],
                        "description": {},
                        "position": "1",
                        "total": None,
                    },
                    {"event": "run_failed", "error": 1, "message": 2, "exit_code": 3, "applied": 4},
                )
            ):
                journal.write(json.dumps({**begun, "sequence": number, **line}) + "\n")
            journal.write("{not json\n\0\n")
        for _ in range(30):
            assert (await near.get("/readyz")).json()["status"] == "migrating"
            await anyio.sleep(0.02)
        place.go.set()
        await until(gate)


async def test_it_starts_again(place: Place) -> None:
    """The same gate after a shutdown, as clients of tests do it."""
    place.project.chain(1)
    gate = place.gate()
    for _ in range(2):
        async with served(gate) as http:
            await until(gate)
            assert (await http.get("/")).status_code == 200
        assert not gate.is_open
    assert place.application.story == ["enter", "request", "leave"] * 2


async def startup(app: Any) -> list[Any]:
    """What an application answers to that, and returns."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    return sent


async def test_a_route_in_its_way(place: Place) -> None:
    """A path of the gate's that the application has, too, is an error before anything begins."""
    place.application.app.routes.append(Route("/readyz", place.application._home))
    [answer] = await startup(place.gate())
    assert answer["type"] == "lifespan.startup.failed"
    assert "readyz=None" in answer["message"]
    assert not place.project.database.exists()
    async with served(place.gate(readyz=None)):
        pass


async def test_as_a_middleware(place: Place) -> None:
    """Of a Starlette or FastAPI application, which stays what the server is given."""
    place.slow()
    app = place.application.app
    app.add_middleware(Gate, orchestrator=place.orchestrator())
    async with served(app) as http:
        assert (await http.get("/")).status_code == 503
        assert place.application.story == []
        place.go.set()
        with anyio.fail_after(30):
            while (await http.get("/readyz")).status_code == 503:  # noqa: ASYNC110 - it is no event
                await anyio.sleep(0.01)
        assert (await http.get("/")).json() == {"versions": ["slow"], "mine": 7}
    assert place.application.story == ["enter", "request", "leave"]


async def test_a_route_in_the_way_of_a_middleware(place: Place) -> None:
    """It is found in the application, whatever stands between."""
    app = place.application.app
    app.routes.append(Route("/livez", place.application._home))
    app.add_middleware(Gate, orchestrator=place.orchestrator())
    [answer] = await startup(app)
    assert "livez=None" in answer["message"]


@pytest.mark.parametrize("extended", [False, True])
async def test_a_websocket_is_turned_away(place: Place, *, extended: bool) -> None:
    """By 503, or where the server cannot do that, by 1013: try again later."""
    place.slow()
    gate = place.gate()
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/ws",
        "headers": [],
        "extensions": {"websocket.http.response": {}} if extended else {},
    }
    async with served(gate):
        await until(gate, opened=False, phase="migrating")
        await gate(scope, receive, send)
        place.go.set()
    if extended:
        assert sent[0]["status"] == 503
    else:
        assert [one.get("code") for one in sent] == [None, 1013]


async def test_events_go_to_a_listener(place: Place) -> None:
    """Each one; what the listener raises is logged, and stops nothing."""
    place.project.chain(1)
    seen: list[Event] = []

    async def listen(event: Event) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(event)
        if isinstance(event, RevisionStarted):
            raise ValueError("no")

    gate = place.gate(on_event=listen)
    async with served(gate):
        await until(gate)
    assert isinstance(seen[-1], RevisionStarted)
    assert [event.sequence for event in seen] == list(range(len(seen)))


@pytest.mark.parametrize("option", ["details", "on_failure", "on_startup_failure"])
async def test_a_word_that_it_does_not_know(place: Place, option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        place.gate(**{option: "nonsense"})
