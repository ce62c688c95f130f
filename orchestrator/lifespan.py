"""The lifespan of a Starlette or FastAPI application: serve only what is migrated."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar

from orchestrator.errors import OrchestratorError
from orchestrator.events import Event
from orchestrator.orchestrator import Orchestrator

App = TypeVar("App")
State = Mapping[str, Any]


class Connectable(Protocol):
    """A database that an application connects, such as `databases.Database`."""

    async def connect(self) -> Any:
        """Connect."""

    async def disconnect(self) -> Any:
        """Disconnect."""


def migrated(
    orchestrator: Orchestrator,
    database: Connectable | None = None,
    then: Callable[[App], AbstractAsyncContextManager[State | None]] | None = None,
    *,
    on_event: Callable[[Event], object] | None = None,
) -> Callable[[App], AbstractAsyncContextManager[dict[str, Any]]]:
    """A lifespan that runs the orchestrator, connects `database`, and enters `then`.

    They are left in the reverse order. The `RunReport` is `request.state.migration`, beside
    what `then`, the application's own lifespan, yields. A run that fails stops the start: its
    error is raised, in its own words; how it came about is logged as `orchestrator` at DEBUG.
    `on_event` gets each event of the run, and may be asynchronous; see `Orchestrator.start`.

        app = FastAPI(lifespan=migrated(Orchestrator.from_config(), database))
    """

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
        try:
            async with orchestrator.start(on_event=on_event) as run:
                report = await run.result()
        except OrchestratorError as error:
            # Servers print the traceback of a start that failed. What led to it says nothing to
            # who runs the application: the message does, and names file and line of a script.
            told = orchestrator.resources.hide("".join(traceback.format_exception(error)))
            logging.getLogger("orchestrator").debug("The start failed:\n%s", told)
            raise error.with_traceback(None) from None
        async with AsyncExitStack() as stack:
            if database is not None:
                await database.connect()
                stack.push_async_callback(database.disconnect)
            state = None if then is None else await stack.enter_async_context(then(app))
            yield {**(state or {}), "migration": report}

    return lifespan
