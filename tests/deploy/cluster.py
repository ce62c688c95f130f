"""A small cluster: runs the containers of Kubernetes' manifests as processes, as a kubelet does.

Init containers, probes that kill or take out of service what does not answer, restarts, a grace
period, rolling updates with `maxSurge` and `maxUnavailable`; a client that asks whatever is ready.
Periods of liveness and readiness are a tenth of what the manifest says.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
SCALE = 0.1
DEADLINE_SECONDS = 90.0
Manifest = dict[str, Any]


def manifests(name: str) -> list[Manifest]:
    """The documents of one of our files."""
    return [one for one in yaml.safe_load_all((DEPLOY / name).read_text()) if one]


def of_kind(name: str, kind: str) -> Manifest:
    [found] = [one for one in manifests(name) if one["kind"] == kind]
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def soon(condition: Callable[[], object], *, seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass(frozen=True)
class Release:
    """An image: the directory that its processes start in, and the variables of a test."""

    directory: Path
    variables: Mapping[str, str]
    secrets: Mapping[str, str]


def environment_of(container: Manifest, release: Release, port: int) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ORCHESTRATOR_") and name != "DATABASE_URL"
    }
    own = {
        one["name"]: one["value"]
        if "value" in one
        else release.secrets[one["valueFrom"]["secretKeyRef"]["name"]]
        for one in container.get("env", ())
    }
    return {**kept, "PORT": str(port), **own, **release.variables}


def command_of(container: Manifest, port: int) -> list[str]:
    """Programs are those of this environment, on loopback and a free port."""
    words = {"0.0.0.0": "127.0.0.1", "8000": str(port)}
    program, *arguments = (words.get(word, word) for word in container["command"])
    return [sys.executable, "-m", program, *arguments]


class Pod:
    """One of a deployment's replicas, or a job's, with the kubelet that looks after it."""

    def __init__(self, spec: Manifest, release: Release, log: Path) -> None:
        self.port = free_port()
        self.ready = False
        self.restarts = 0
        self.killed_by: list[str] = []
        self.exit_code: int | None = None
        self._spec = spec
        self._release = release
        self._log = log
        self._crashing = False
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._live, name=f"pod {self.port}")
        self._thread.start()

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def crash(self) -> None:
        """Kill its process; who asks it at that instant is not what is looked at here."""
        assert self._process is not None
        self._crashing = True
        self.ready = False
        time.sleep(0.2)
        self._process.kill()

    def delete(self) -> None:
        """Take it out of service, let it end in its grace period, and wait for that."""
        self.ready = False
        pre_stop = self._container.get("lifecycle", {}).get("preStop")
        if pre_stop is not None:
            time.sleep(pre_stop["sleep"]["seconds"] * SCALE)
        self._stopping.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(self._spec["terminationGracePeriodSeconds"])
            except subprocess.TimeoutExpired:
                self.killed_by.append("grace period")
                self._process.kill()
        self._thread.join()

    @property
    def _container(self) -> Manifest:
        [container] = self._spec["containers"]
        return dict(container)

    def _live(self) -> None:
        for container in self._spec.get("initContainers", ()):
            while not self._stopping.is_set() and self._ran(container) != 0:
                self.restarts += 1
        while not self._stopping.is_set():
            self._process = process = self._started(self._container)
            self._look_after(process)
            self.exit_code = process.wait()
            if self._spec.get("restartPolicy") == "Never" or self._stopping.is_set():
                return
            self._crashing = False
            self.restarts += 1

    def _ran(self, container: Manifest) -> int:
        self._process = process = self._started(container)
        return process.wait()

    def _started(self, container: Manifest) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command_of(container, self.port),
                cwd=self._release.directory,
                env=environment_of(container, self._release, self.port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _look_after(self, process: subprocess.Popen[bytes]) -> None:
        """Ask its probes until it ends, or has to be ended."""
        container = self._container
        started = Probe("startup", container.get("startupProbe"), self.port, scale=1.0)
        alive = Probe("liveness", container.get("livenessProbe"), self.port)
        ready = Probe("readiness", container.get("readinessProbe"), self.port)
        while process.poll() is None:
            for probe in (started, *((alive, ready) if started.passed else ())):
                probe.ask()
            if started.has_failed or alive.has_failed:
                self.ready = False
                self.killed_by.append("startup" if started.has_failed else "liveness")
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(self._spec["terminationGracePeriodSeconds"] * SCALE / 10)
                except subprocess.TimeoutExpired:
                    process.kill()
                return
            in_service = not (self._stopping.is_set() or self._crashing)
            if in_service and "readinessProbe" in container:
                self.ready = ready.passed and not ready.has_failed
            time.sleep(0.02)
        self.ready = False


@dataclass
class Probe:
    """One of a container's, as the manifest has it; one that it does not have has passed."""

    name: str
    spec: Manifest | None
    port: int
    scale: float = SCALE
    passed: bool = False
    failures: int = 0
    next_at: float = 0.0

    def __post_init__(self) -> None:
        self.passed = self.spec is None

    @property
    def has_failed(self) -> bool:
        return self.spec is not None and self.failures >= self.spec.get("failureThreshold", 3)

    def ask(self) -> None:
        if self.spec is None or (self.name == "startup" and self.passed):
            return
        if time.monotonic() < self.next_at:
            return
        self.next_at = time.monotonic() + self.spec["periodSeconds"] * self.scale
        if answered(self.port, self.spec["httpGet"]["path"], self.spec.get("timeoutSeconds", 1)):
            self.passed, self.failures = True, 0
        else:
            self.failures += 1


def answered(port: int, path: str, seconds: float) -> bool:
    """Whether a probe is answered with success."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Deployment:
    """Replicas of a manifest's template, and their rolling updates."""

    def __init__(self, manifest: Manifest, release: Release, logs: Path) -> None:
        self.pods: list[Pod] = []
        self.gone: list[Pod] = []
        self._manifest = manifest
        self._logs = logs
        self._logs.mkdir(exist_ok=True)
        for _ in range(manifest["spec"]["replicas"]):
            self._add(release)

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        threads = [threading.Thread(target=pod.delete) for pod in self.pods]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def until_ready(self) -> None:
        soon(lambda: all(pod.ready for pod in self.pods))

    def update(self, release: Release) -> None:
        """One by one: a new pod, and when that is ready, an old one goes."""
        rolling = self._manifest["spec"]["strategy"]["rollingUpdate"]
        assert (rolling["maxSurge"], rolling["maxUnavailable"]) == (1, 0)
        for old in list(self.pods):
            new = self._add(release)
            soon(lambda new=new: new.ready)  # type: ignore[misc]
            self.pods.remove(old)
            self.gone.append(old)
            old.delete()

    @property
    def log(self) -> str:
        return "\n".join(pod.log for pod in (*self.gone, *self.pods))

    def _add(self, release: Release) -> Pod:
        number = len(self.pods) + len(self.gone)
        state = {}
        if "ORCHESTRATOR_STATE_DIR" in release.variables:  # a container has files of its own
            directory = release.variables["ORCHESTRATOR_STATE_DIR"]
            state = {"ORCHESTRATOR_STATE_DIR": f"{directory}-{number}"}
        own = Release(release.directory, {**release.variables, **state}, release.secrets)
        pod = Pod(self._manifest["spec"]["template"]["spec"], own, self._logs / f"{number}.log")
        self.pods.append(pod)
        return pod


@dataclass
class Client:
    """Asks whatever is ready, all the time; each answer has to be one of the application's."""

    deployment: Deployment
    answers: list[Any] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Client:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask_all)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask_all(self) -> None:
        while not self._over.is_set():
            for pod in [pod for pod in self.deployment.pods if pod.ready]:
                self._ask(pod)
            time.sleep(0.01)

    def _ask(self, pod: Pod) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", pod.port, timeout=10)
        try:
            connection.request("GET", "/orders")
            response = connection.getresponse()
            body = response.read()
            if response.status == 200:
                self.answers.append(json.loads(body))
            else:
                self.failures.append(f"{response.status} {body.decode()}")
        except (OSError, http.client.HTTPException) as error:
            if pod in self.deployment.pods and pod.ready:
                self.failures.append(repr(error))
        finally:
            connection.close()
