"""Access control: API keys, same-origin rules for browsers, and security headers on every answer."""

import logging
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forgerank.serving.receiving import RETRY_SECONDS, ProblemError, exhausted
from forgerank.serving.service import problems
from forgerank.serving.service.keys import Keys
from forgerank.serving.service.service_settings import LOOPBACK

# Of every answer that sets none of its own. Reports set a policy that allows their inline style and script.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

_COME_BACK = {"Retry-After": str(RETRY_SECONDS), "Connection": "close"}
_log = logging.getLogger(__name__)
_bearer = HTTPBearer(auto_error=False, description="an API key; not asked for where they are switched off")


async def authorize(
    request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> int | None:
    """Dependency: the id of the key that a request shows, None where keys are switched off.

    Raises ProblemError 401 without a valid one.
    """
    keys: Keys | None = request.app.state.service.keys
    if keys is None:
        return None
    found = None if shown is None else await run_in_threadpool(keys.find, shown.credentials)
    if found is None:
        advice = "send a valid API key: Authorization: Bearer KEY"
        raise ProblemError(401, advice, {"WWW-Authenticate": "Bearer"})
    request.state.key = found  # for the access log
    return found


class Guard:
    """ASGI middleware: security headers, an answer to what nobody caught, and same origin without keys.

    Beyond `most` requests at one time the answer is 503, before the process has no more files to open.

    Where keys are off, being on this machine is all that gives access. A page from elsewhere, open in a
    browser here, must not borrow that: neither by a form (its Origin differs) nor by a name of its own that
    resolves to this machine (the Host is not one of the loopback's).
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool, most: int) -> None:
        self.app, self.loopback_only, self.most = app, loopback_only, most
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if self._open >= self.most:
            full = problems.response(503, "the server has too much in work", _COME_BACK)
            await full(scope, receive, with_headers)
            return
        refused = _refused(Headers(scope=scope)) if self.loopback_only else None
        if refused is not None:
            await problems.response(*refused)(scope, receive, with_headers)
            return
        self._open += 1
        try:
            await self.app(scope, receive, with_headers)
        except Exception as error:
            if started:
                raise  # the answer breaks off, and uvicorn writes it to the log
            problem = exhausted(error)
            if isinstance(problem, ProblemError):
                answer = problems.response(problem.status, problem.detail, problem.headers)
                await answer(scope, receive, with_headers)
                return
            _log.exception("%s %r failed", scope["method"], scope["path"])
            failed = problems.response(500, "the server failed; its log says more")
            await failed(scope, receive, with_headers)
        finally:
            self._open -= 1


def _refused(headers: Headers) -> tuple[int, str] | None:
    host, origin = headers.get("host", ""), headers.get("origin")
    if _hostname(host) not in LOOPBACK:
        return 421, "without API keys, this server answers to localhost only"
    if origin is not None and origin.partition("://")[2] != host:
        return 403, "without API keys, pages of other origins may not ask"
    return None


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
