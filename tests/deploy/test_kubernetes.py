"""The manifests, by their schema and as processes: probes, grace periods, rolling updates."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.cluster import DEPLOY, Client, Deployment, Pod, Release, manifests, of_kind, soon
from tests.projects import make_project
from tests.servers.postgresql import shared_postgresql

pytestmark = pytest.mark.slow

FILES = sorted(path.name for path in (DEPLOY / "kubernetes").glob("*.yaml"))
VERSION = "1.31"
GATED = """
import os

import sqlalchemy as sa
from fastapi import FastAPI
from orchestrator import Orchestrator
from orchestrator.asgi import Gate

inner = FastAPI()
"""
MIGRATED = """
import os

import sqlalchemy as sa
from fastapi import FastAPI
from orchestrator import Orchestrator
from orchestrator.lifespan import migrated

inner = app = FastAPI(lifespan=migrated(Orchestrator.from_config()))


@app.get("/health")
def health() -> dict:
    return {}
"""
ORDERS = """

engine = sa.create_engine(os.environ["DATABASE_URL"])


@inner.get("/orders")
def orders() -> dict:
    with engine.connect() as connection:
        columns = [one["name"] for one in sa.inspect(connection).get_columns("t_r2")]
        rows = connection.execute(sa.text("SELECT count(*) FROM t_r2")).scalar_one()
    return {{"release": "{release}", "columns": columns, "rows": rows}}
"""
GATE = "\n\napp = Gate(inner, Orchestrator.from_config())\n"
ENV_PY = "from orchestrator.environment import run_migrations\n\nrun_migrations()\n"
TAKES_LONG = "op.add_column('t_r2', sa.Column('paid', sa.Integer))\ntime.sleep(5)"


class Shop:
    """Two releases of an application, on one database: B has a revision more, which takes long."""

    def __init__(self, path: Path, url: str | None, *, gate: bool = True) -> None:
        self.path = path
        self.a, self.b = (self._release(name, url, gate=gate) for name in "ab")

    def _release(self, name: str, url: str | None, *, gate: bool) -> Release:
        directory = self.path / name
        directory.mkdir()
        project = make_project(directory)
        project.write("migrations/env.py", ENV_PY)
        project.chain(2, seconds=0.5)
        if name == "b":
            project.revision("r3", "r2", TAKES_LONG)
        body = (GATED if gate else MIGRATED) + ORDERS.format(release=name)
        project.write("main.py", body + (GATE if gate else ""))
        variables = {
            "ORCHESTRATOR_SCRIPT_LOCATION": "migrations",
            "PYTHONPATH": str(directory),
        }
        if url is None:
            url = f"sqlite:///{self.path}/shop.db"
        else:
            variables["ORCHESTRATOR_STATE_DIR"] = str(self.path / "state")
        return Release(directory, variables, {"shop-database": url, "shop-owner": url})


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with database(request.param) as url:
        yield Shop(tmp_path, url)


@contextmanager
def database(kind: str) -> Iterator[str | None]:
    if kind == "sqlite":
        yield None
        return
    server = shared_postgresql()
    with server.database() as name:
        yield server.url(name)


@pytest.mark.parametrize("name", FILES)
def test_it_is_what_kubernetes_takes(name: str) -> None:
    """By the published schemas, strictly: nothing is misspelt."""
    found = manifests(f"kubernetes/{name}")
    assert found
    for one in found:
        kubernetes_validate.validate(one, VERSION, strict=True)


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_migrates_is_killed_for_it(name: str) -> None:
    """No probe that kills asks whether it is ready; and each may finish its revision."""
    for one in manifests(f"kubernetes/{name}"):
        spec: Any = one["spec"].get("template", {}).get("spec", {})
        for container in spec.get("containers", ()):
            for probe in ("startupProbe", "livenessProbe"):
                assert container.get(probe, {}).get("httpGet", {}).get("path") != "/readyz"
            migrates = not any(
                variable["name"] == "ORCHESTRATOR_MODE" for variable in container["env"]
            ) and not spec.get("initContainers")
            assert spec["terminationGracePeriodSeconds"] >= (300 if migrates else 30)


def versions_of(deployment: Deployment) -> list[str]:
    """Those of each run that ended well, as the pods' logs have them."""
    lines = [json.loads(line) for line in deployment.log.splitlines() if line.startswith("{")]
    return [str(line["led"]) for line in lines if line.get("event") == "database_ready"]


def test_a_rolling_update_with_the_gate(shop: Shop) -> None:
    """Of four replicas from A to B, with requests all the time; one of A restarts after B migrated.

    No request is answered from a database that is not migrated, none is refused once its replica
    was ready, and no probe kills what migrates, though that takes longer than a liveness probe.
    """
    manifest = of_kind("kubernetes/gate.yaml", "Deployment")
    with Deployment(manifest, shop.a, shop.path / "logs") as deployment:
        deployment.until_ready()
        assert versions_of(deployment).count("True") == 1
        with Client(deployment) as client:
            soon(lambda: len(client.answers) > 20)
            last = deployment.pods[-1]

            def crash_when_migrated() -> None:
                soon(lambda: len(deployment.gone) >= 1)
                last.crash()

            crasher = threading.Thread(target=crash_when_migrated)
            crasher.start()
            deployment.update(shop.b)
            crasher.join()
            soon(lambda: client.answers[-1]["release"] == "b")
        assert client.failures == []
        assert all({"id"} <= set(answer["columns"]) for answer in client.answers)
        assert all("paid" in one["columns"] for one in client.answers if one["release"] == "b")
        everyone = (*deployment.gone, *deployment.pods)
        assert [pod.killed_by for pod in everyone] == [[]] * len(everyone)
        assert last.restarts == 1
        assert versions_of(deployment).count("True") == 2, deployment.log


def test_a_probe_on_readyz_kills_what_migrates(tmp_path: Path) -> None:
    """What the manifests warn of: seen once, so that it is known to be what they prevent."""
    shop = Shop(tmp_path, None)
    manifest = copy.deepcopy(of_kind("kubernetes/gate.yaml", "Deployment"))
    manifest["spec"]["replicas"] = 1
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    container["livenessProbe"]["httpGet"]["path"] = "/readyz"
    with Deployment(manifest, shop.b, tmp_path / "logs") as deployment:
        soon(lambda: deployment.pods[0].killed_by == ["liveness"])


def test_a_job_migrates_and_the_replicas_follow(shop: Shop) -> None:
    """Applied at once: none of them serves before the job has ended, and none migrates."""
    job_spec = of_kind("kubernetes/job.yaml", "Job")["spec"]["template"]["spec"]
    manifest = of_kind("kubernetes/job.yaml", "Deployment")
    with Deployment(manifest, shop.b, shop.path / "logs") as deployment:
        soon(lambda: all(pod.log for pod in deployment.pods))
        job = Pod(job_spec, shop.b, shop.path / "job.log")
        with Client(deployment) as client:
            soon(lambda: job.exit_code is not None)
            deployment.until_ready()
            soon(lambda: len(client.answers) > 20)
        job.delete()
    assert job.exit_code == 0, job.log
    assert client.failures == []
    assert all("paid" in answer["columns"] for answer in client.answers)
    assert versions_of(deployment) == ["False"] * 4
    assert [pod.killed_by for pod in deployment.pods] == [[]] * 4


def test_an_init_container_waits(tmp_path: Path) -> None:
    """For an application without the gate; the job's killing is none of its business."""
    shop = Shop(tmp_path, None, gate=False)
    job_spec = of_kind("kubernetes/job.yaml", "Job")["spec"]["template"]["spec"]
    manifest = of_kind("kubernetes/init-container.yaml", "Deployment")
    with Deployment(manifest, shop.b, tmp_path / "logs") as deployment:
        soon(lambda: all("lock_waiting" in pod.log for pod in deployment.pods))
        assert not any(pod.ready for pod in deployment.pods)
        job = Pod(job_spec, shop.b, tmp_path / "job.log")
        with Client(deployment) as client:
            deployment.until_ready()
            soon(lambda: len(client.answers) > 20)
        soon(lambda: job.exit_code is not None)
        job.delete()
    assert job.exit_code == 0
    assert client.failures == []
    assert all(pod.restarts == 0 for pod in deployment.pods)


def test_a_pod_that_is_stopped_finishes_its_revision(tmp_path: Path) -> None:
    """In its grace period; the next one goes on from there."""
    shop = Shop(tmp_path, None)
    manifest = copy.deepcopy(of_kind("kubernetes/gate.yaml", "Deployment"))
    manifest["spec"]["replicas"] = 1
    with Deployment(manifest, shop.b, tmp_path / "logs") as deployment:
        [pod] = deployment.pods
        soon(lambda: '"revision_started"' in pod.log and '"r3"' in pod.log.split("plan_made")[-1])
        pod.delete()
        assert pod.killed_by == []
        assert "run_cancelled" in pod.log
