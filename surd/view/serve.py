"""Serving the viewer on loopback until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import webbrowser
from collections.abc import Callable

from aiohttp import web
from aiohttp.log import server_logger

from surd.errors import SurdError, command
from surd.store.workspace import Workspace
from surd.view.guard import is_ours
from surd.view.routes import make_app
from surd.view.state import View

HOST = "127.0.0.1"


def serve(
    workspace: Workspace, port: int, say: Callable[[str], None], *, open_browser: bool = False
) -> None:
    """Serve until Ctrl-C or a termination signal; port 0 takes any that is free.

    Says where, and at the end what remains to be done. Raises SurdError when the workspace
    cannot be read, or the port is taken.
    """
    view = View(workspace)
    view.snapshot()  # what is wrong shows now, and not in a browser
    with listen(port) as found:
        url = f"http://{HOST}:{found.getsockname()[1]}/"
        say(f"{workspace.location}: open {url} in a browser; stop with Ctrl-C")
        if open_browser:
            webbrowser.open(url)
        asyncio.run(_run(view, found))
    now = view.snapshot()
    where = workspace.location
    if now.unscored:
        prompts = "1 simple prompt" if now.unscored == 1 else f"{now.unscored:,} simple prompts"
        say(f"{prompts} edited and not scored yet; run: {command('edit', where, '--apply')}")
    elif now.undecided:
        from surd.build.needs import first_to_run

        decisions = "1 decision" if now.undecided == 1 else f"{now.undecided:,} decisions"
        run = first_to_run(workspace, "filter")
        say(f"{decisions} by hand not in the verdicts yet; run: {run}")


def listen(port: int) -> socket.socket:
    """A socket that listens on loopback. Raises SurdError when the port is taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((HOST, port))
        found.listen(128)
    except OSError as error:
        found.close()
        taken = error.errno == errno.EADDRINUSE
        why = "is in use" if taken else f"cannot be used: {error.strerror}"
        mend = "choose another with --port, or a free one with --port 0"
        raise SurdError(f"port {port} {why}; {mend}") from None
    return found


def make_runner(view: View) -> web.AppRunner:
    """What answers requests. Of what clients get wrong nothing is logged."""
    server_logger.addFilter(is_ours)  # which takes the same one twice for one
    return web.AppRunner(make_app(view), access_log=None, shutdown_timeout=1)


async def _run(view: View, found: socket.socket) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows has KeyboardInterrupt alone
            loop.add_signal_handler(number, stopped.set)
    runner = make_runner(view)
    await runner.setup()
    try:
        await web.SockSite(runner, found).start()
        await stopped.wait()
    finally:
        view.stopping.set()
        await runner.cleanup()
