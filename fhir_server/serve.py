"""Running the server: the listening socket, one or more worker processes, signals, and an orderly end.

The parent binds the socket once; workers are forked and accept on it. Each has its own event loop and its own view of the one store.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fhir_server.settings import Settings

if TYPE_CHECKING:
    import uvicorn

    from fhir_server.app import Application

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 7
"""For requests in flight after SIGTERM; the store's end follows within the 10 seconds that are promised."""
_BACKLOG = 2048
_RESTART_PAUSE = 1.0
_WARM_SECONDS = 1.0
Prepare = Callable[["Application"], None]


class Refused(Exception):
    """The server cannot be started as asked; the message says why."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address of that name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check(settings: Settings) -> None:
    """Raise Refused for settings that must not, or cannot yet, be served."""
    if settings.auth == "off" and not is_loopback(settings.host):
        raise Refused(
            f"--host {settings.host} is not a loopback address, and authorization is off: "
            "anyone who reaches it could read and change everything. "
            "Use --host 127.0.0.1 (behind a proxy of your own, if need be)."
        )
    if settings.auth == "smart":
        raise Refused("--auth smart is not served yet; use --auth off on a loopback address")
    if settings.store != "sqlite":
        raise Refused(f"--store {settings.store} is not served yet; use --store sqlite")
    if settings.jobs != "embedded":
        raise Refused(f"--jobs {settings.jobs} is not served yet; use --jobs embedded")
    if settings.mllp_port != "off" and not settings.mllp_port.isdigit():
        raise Refused(f"--mllp-port {settings.mllp_port} is neither a number nor 'off'")
    if settings.mllp_port != "off" and not is_loopback(settings.mllp_host) and settings.auth == "off":
        raise Refused(f"FHIR_SERVER_MLLP_HOST={settings.mllp_host} is not a loopback address, and authorization is off")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Refused where the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
    except OSError as fault:
        raise Refused(
            f"Cannot listen on {host}:{port}: {fault.strerror}. Is another server running there? --port 0 takes a free one."
        ) from None


async def _run_worker(
    settings: Settings, listener: socket.socket, worker: int, prepare: Prepare | None, ready: Callable[[str], None], parent: int | None
) -> None:
    """One worker from start to orderly end. `ready` gets the address of the MLLP listener ('' = none) once all is up.

    `parent`: the process that looks after it, if any; without that one it ends.
    """
    gc.disable()  # what is made while starting stays: walking it again and again costs a fifth of the start
    import uvicorn

    from fhir_server.app import compose
    from fhir_server.observability import tracing
    from fhir_server.protocol import Protocol, watch

    provider = tracing.begin() if settings.tracing == "on" else None
    app = await compose(settings, listener.getsockname()[1], worker)
    if prepare is not None:
        prepare(app)
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="websockets-sansio",
        ws_max_size=65_536,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn raises the signal again after its shutdown; here the end is ours: exit 0 after the store is closed.
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.end)
            yield

        def end(self) -> None:
            self.should_exit = True

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(app.mllp_address)

    await app.start()
    server = Server(config)
    watchers = [asyncio.create_task(watch(server.server_state.connections, settings.body_seconds, KEEP_ALIVE_SECONDS))]
    if parent is not None:
        watchers.append(asyncio.create_task(_end_with_parent(server, parent)))
    gc.collect()
    gc.freeze()  # definitions and compiled tables live as long as the process; the collector need not look at them again
    gc.set_threshold(20_000, 20, 50)
    gc.enable()
    watchers.append(asyncio.create_task(_warm(app)))
    try:
        await server.serve([listener])
    finally:
        for watcher in watchers:
            watcher.cancel()
        await app.stop()
        if provider is not None:
            await provider.stop()


async def _warm(app: Any) -> None:
    """Build what few requests need, before the first of them comes."""
    await asyncio.sleep(_WARM_SECONDS)
    await app.others.ready()


async def _end_with_parent(server: uvicorn.Server, parent: int) -> None:
    """End in order when the parent was killed: nobody would restart or stop this worker any more."""
    while os.getppid() == parent:
        await asyncio.sleep(1)
    server.should_exit = True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not on every platform; the standard loop serves too
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _worker(
    settings: Settings, listener: socket.socket, worker: int, prepare: Prepare | None, ready: Callable[[str], None], parent: int | None
) -> int:
    """Exit status of a worker."""
    from fhir_server.errors import FhirError
    from fhir_server.observability import logs
    from fhir_server.observability.tracing import TracingError
    from fhir_server.plugins.finding import PluginError
    from fhir_server.storage.port import UnusableStore

    logs.configure(settings.log_level)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run_worker(settings, listener, worker, prepare, ready, parent))
    except (Refused, FhirError, PluginError, TracingError, UnusableStore, OSError) as fault:
        print(f"fhir-server: {fault}", file=sys.stderr)
        return 1
    return 0


def _announce(settings: Settings, listener: socket.socket, mllp: str) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    line = f"fhir-server ready http://{host}:{listener.getsockname()[1]}/fhir" + (f" mllp={mllp}" if mllp else "")
    # Not print(): where output is not buffered it writes the end of the line apart, and a worker's line can come between.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class _Children:
    """The forked workers of a parent that itself serves nothing."""

    def __init__(self, settings: Settings, listener: socket.socket, prepare: Prepare | None) -> None:
        self._settings, self._listener, self._prepare = settings, listener, prepare
        self._running: dict[int, int] = {}
        self._ending = False

    def fork(self, worker: int) -> int:
        """Start a worker; the end of a pipe on which it tells that it is ready."""
        reading, writing = os.pipe()
        # Asked for here: a worker that asks by itself may already be an orphan, and would take its new parent for the one to follow.
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(reading)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)

                def tell(mllp: str) -> None:
                    with contextlib.suppress(BrokenPipeError):  # the parent is gone; the worker ends by itself
                        os.write(writing, (mllp or "-").encode() + b"\n")

                status = _worker(self._settings, self._listener, worker, self._prepare, tell, parent)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        os.close(writing)
        self._running[pid] = worker
        return reading

    def start(self, number: int) -> str | None:
        """Fork all and wait until each is ready; the MLLP address, or None where one of them failed."""
        pipes = [self.fork(worker) for worker in range(number)]
        told = [os.fdopen(pipe).readline().strip() for pipe in pipes]
        if not all(told):
            return None
        return next((address for address in told if address != "-"), "")

    def end(self, *_: object) -> None:
        """Pass SIGTERM on."""
        self._ending = True
        for pid in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def watch(self) -> int:
        """Until the end: put a new worker in the place of one that died. The exit status."""
        status = False
        while self._running:
            try:
                pid, code = os.wait()
            except InterruptedError:
                continue
            worker = self._running.pop(pid, None)
            if worker is None:
                continue
            if self._ending:
                # A worker that was just starting dies of the signal itself; it has nothing to finish.
                status = status or (os.waitstatus_to_exitcode(code) not in (0, -signal.SIGTERM, -signal.SIGINT))
                continue
            print(
                f"fhir-server: worker {worker} (pid {pid}) ended with status {os.waitstatus_to_exitcode(code)}; a new one starts",
                file=sys.stderr,
            )
            time.sleep(_RESTART_PAUSE)
            if not self._ending:
                os.close(self.fork(worker))
        return int(status)


def _serve_workers(settings: Settings, listener: socket.socket, prepare: Prepare | None) -> int:
    import fhir_server.app  # noqa: F401 - once for all workers, which share its memory

    children = _Children(settings, listener, prepare)
    signal.signal(signal.SIGTERM, children.end)
    signal.signal(signal.SIGINT, children.end)
    mllp = children.start(settings.workers)
    if mllp is None:
        children.end()
        children.watch()
        return 1
    _announce(settings, listener, mllp)
    return children.watch()


def serve(settings: Settings, prepare: Prepare | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. `prepare` may hang further parts into each worker's application.

    Raises Refused.
    """
    check(settings)
    listener = bind(settings.host, settings.port)
    if settings.workers == 1:
        return _worker(settings, listener, 0, prepare, lambda mllp: _announce(settings, listener, mllp), None)
    with tempfile.TemporaryDirectory(prefix="fhir-server-") as folder:
        os.environ["FHIR_SERVER_METRICS_FOLDER"] = str(Path(folder))
        return _serve_workers(settings, listener, prepare)
