"""A swap of the bundle in a worker: it loads the new one beside the old, changes over, and answers `POST /admin/reload`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from pathlib import Path
from time import monotonic
from uuid import uuid4

from anyio import to_thread
from prometheus_client import Gauge
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from compress.runtime.errors import UserError
from compress.runtime.files import write_text
from serve.bundle_choice import SWAP, read_choice, serving_file
from serve.predictor import Predictor
from serve.swap import LOAD_SECONDS, SwapRequest, SwapResult, load

POLL_SECONDS = 0.05
logger = logging.getLogger("bentoml.pocketbert")
# A series cannot be taken back from the files that the workers count in, so the bundle before a swap gets 0.
BUNDLE = Gauge(
    "pocketbert_bundle_info",
    "1: a worker answers with this bundle. 0: it did before.",
    ["name", "sha256"],
    multiprocess_mode="livemax",
)


def answer_with(app: Starlette, predictor: Predictor) -> None:
    """Make this the predictor of an application, for the requests that begin from now on, and say so in the metrics."""
    before: Predictor | None = app.state.predictor
    app.state.predictor = predictor
    if before is not None:
        BUNDLE.labels(before.info.name, before.info.bundle).set(0)
    BUNDLE.labels(predictor.info.name, predictor.info.bundle).set(1)
    if predictor.drift is not None:
        predictor.drift.announce()


class Changer:
    """Changes the predictor of an application to the bundle that the server has chosen.

    :param state: the server's directory, see `serve.bundle_choice`.
    """

    def __init__(self, app: Starlette, state: Path) -> None:
        self._app, self._state = app, state
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self) -> None:
        """Change at SIGHUP; and now, if the choice has changed since this worker read it."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._start)
        self._start()

    def _start(self) -> None:
        task = asyncio.get_running_loop().create_task(self._change())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _change(self) -> None:
        async with self._one_at_a_time:
            choice = read_choice(self._state)
            assert choice is not None
            if choice.sha256 != self._app.state.predictor.info.bundle:
                try:
                    # A request that runs keeps the predictor with which it began.
                    answer_with(self._app, await to_thread.run_sync(load, choice.copied))
                except UserError as error:
                    # It could be loaded a moment ago in another process. A new worker tries again, or ends the server.
                    logger.error("the new bundle cannot be loaded: %s", error)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                gc.freeze()  # as at the start; a collection would stop the event loop for too long
            write_text(serving_file(self._state, os.getpid()), choice.sha256)


async def reload(http: HttpRequest) -> Response:
    """`POST /admin/reload`: change all workers of the server to another bundle; answered when they have changed."""
    state: Path | None = http.app.state.server
    if state is None:
        return _refused(
            403, "admin: set POCKETBERT_TOKEN and start the server with `pocketbert serve` or `bentoml serve`"
        )
    body = await http.body()
    try:
        request = SwapRequest.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return _refused(422, f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}")
    name = f"swap-{uuid4().hex}.json"
    asked = state / f"{name}.asked"
    write_text(asked, f"{name}\n{request.model_dump_json()}")
    try:
        (state / SWAP).hardlink_to(asked)  # fails if another request is there
    except FileExistsError:
        return _refused(409, "another change of the bundle is under way; try again when it is done")
    finally:
        asked.unlink()
    os.kill(os.getppid(), signal.SIGHUP)
    result = await _result(state / name)
    if result.error:
        if result.bundle is not None:
            return _refused(500, result.error)
        return _refused(409, f"the bundle stays as it is: {result.error}")
    return JSONResponse({"bundle": result.bundle, "workers": len(result.workers)})


async def _result(file: Path) -> SwapResult:
    """What became of a swap, when all workers have changed. With an error and a bundle: some have not yet."""
    end = monotonic() + LOAD_SECONDS + 10
    result = SwapResult(error=f"no answer within {LOAD_SECONDS} s; see the server's log")
    while monotonic() < end:
        if file.exists():
            result = SwapResult.model_validate_json(file.read_bytes())
            break
        await asyncio.sleep(POLL_SECONDS)
    file.unlink(missing_ok=True)
    while late := [pid for pid in result.workers if not _serves(file.parent, pid, result.bundle)]:
        if monotonic() > end:
            error = (
                f"{len(late)} of {len(result.workers)} workers have not changed to the bundle yet; see the server's log"
            )
            return result.model_copy(update={"error": error})
        await asyncio.sleep(POLL_SECONDS)
    return result


def _serves(state: Path, pid: int, bundle: str | None) -> bool:
    """Whether a worker has changed to a bundle. One that has ended counts, since the next one starts with the bundle."""
    try:
        os.kill(pid, 0)
        return serving_file(state, pid).read_text(encoding="utf-8") == bundle
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        return False


def _refused(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status)
