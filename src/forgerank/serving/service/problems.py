"""Every error as problem details (RFC 9457); no internals show in them."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from forgerank.serving.receiving import RETRY_SECONDS, ProblemError
from forgerank.serving.service.jobs import QueueFullError

MEDIA_TYPE = "application/problem+json"


class Flaw(BaseModel):
    """One part of a request that does not fit."""

    where: str = Field(description="the part of the request, such as query.name")
    detail: str


class ProblemDetails(BaseModel):
    """What went wrong, for a person and for a program (RFC 9457)."""

    type: str = Field(default="about:blank", description="about:blank: the status says what kind it is")
    title: str = Field(description="the status in words")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what went wrong this time, one line")
    errors: tuple[Flaw, ...] | None = Field(default=None, description="for 422: every part that does not fit")


def response(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: tuple[Flaw, ...] | None = None,
) -> Response:
    """The response that carries problem details."""
    body = ProblemDetails(title=_title(status), status=status, detail=detail, errors=errors)
    return Response(body.model_dump_json(exclude_none=True), status, headers, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route for OpenAPI; `describe` completes them."""
    return {status: {"model": ProblemDetails, "description": _CASES[status]} for status in statuses}


def describe(specification: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document, changed in place, in which every error is problem details."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    for operations in specification["paths"].values():
        for operation in operations.values():
            for status, described in operation["responses"].items():
                if status >= "400":
                    described.update(description=_CASES[int(status)], content=content)
    for replaced in ("HTTPValidationError", "ValidationError"):  # FastAPI's own
        specification["components"]["schemas"].pop(replaced, None)
    return specification


def install(app: FastAPI) -> None:
    """Make problem details of what requests do wrong; `guard.Guard` does so for what nobody foresaw."""

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> Response:
        return response(error.status, error.detail, error.headers)

    @app.exception_handler(QueueFullError)
    async def _full(request: Request, error: QueueFullError) -> Response:
        return response(503, "as much waits as is allowed", {"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeoutError)
    async def _database(request: Request, error: Exception) -> Response:
        logging.getLogger(__name__).error("the database does not answer: %s", getattr(error, "orig", error))
        return response(503, "the database does not answer", {"Retry-After": str(RETRY_SECONDS)})

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        detail = _DETAILS.get(error.status_code, error.detail)
        headers = dict(error.headers or {})
        operations = request.app.openapi()["paths"].get(getattr(request.scope.get("route"), "path", ""))
        if error.status_code == 405 and operations:  # Starlette tells the methods of one route only
            headers["Allow"] = ", ".join(method.upper() for method in operations)
        return response(error.status_code, detail, headers)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        flaws = tuple(_flaw(entry) for entry in error.errors())
        return response(422, "; ".join(f"{flaw.where}: {flaw.detail}" for flaw in flaws), errors=flaws)


_CASES = {
    400: "The body is malformed or breaks off.",
    401: "No valid API key.",
    403: "A web page of another origin asks, where no keys are required.",
    404: "There is no such job under this key (any more).",
    408: "The body stalls.",
    409: "The job is not done.",
    413: "More bytes or pixels than the limit.",
    415: "Not of a kind that is read, or compressed.",
    421: "Another host is asked for, where no keys are required.",
    422: "The file is damaged or empty, or a parameter does not fit.",
    500: "The server failed; its log says more.",
    503: "Too much waits, or a part of the service is away; Retry-After says when to come back.",
}
_DETAILS = {404: "there is nothing here", 405: "this address does not take that method"}


def _title(status: int) -> str:
    return HTTPStatus(status).phrase


def _flaw(entry: Mapping[str, Any]) -> Flaw:
    return Flaw(where=".".join(str(part) for part in entry["loc"]), detail=str(entry["msg"]))
