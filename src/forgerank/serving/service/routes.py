"""The routes of the service."""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from forgerank import __version__
from forgerank.detect.result import Report
from forgerank.detect.runtime import runtime_version
from forgerank.media.files import read_head
from forgerank.media.opening import unread
from forgerank.media.suffixes import archive_format
from forgerank.report.builder import ReportBuilder
from forgerank.report.schema import ReportFile
from forgerank.serving.receiving import ProblemError, busy, exhausted, label, receive
from forgerank.serving.service.decoders import Decoded
from forgerank.serving.service.guard import authorize
from forgerank.serving.service.jobs import Job, Kind, QueueFullError, State
from forgerank.serving.service.problems import documented
from forgerank.serving.service.service_parts import Service
from forgerank.serving.service.uploads import kind_of

# A report in a browser: its own style and script, no request to anywhere, an origin of its own.
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'none'; sandbox allow-scripts"
)
_JOB_ID = re.compile(r"[0-9a-f]{32}")
_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "One file: as the body itself, of whatever type it says, or as a form's part `file`.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
        },
    }
}

Name = Annotated[str, Query(max_length=1000, description="what to call the file in the report")]
Form = Annotated[
    Literal["json", "html"] | None,
    Query(alias="format", description="of the report; goes before the Accept header"),
]
Thorough = Annotated[
    bool,
    Query(description="judge each face in four views, mirrored and at two scales, and average them"),
]
KeyId = Annotated[int | None, Depends(authorize)]


class JobView(BaseModel):
    """A job."""

    id: str = Field(description="32 hexadecimal digits")
    kind: Kind = Field(description="what was sent, told by its content")
    name: str = Field(description="what the client calls the file")
    size: int = Field(description="of the file, bytes")
    thorough: bool = Field(description="each face is judged in several views")
    state: State
    created: datetime
    started: datetime | None = Field(description="start of the last attempt")
    finished: datetime | None
    attempts: int = Field(description="times that the work was begun")
    progress: float = Field(ge=0.0, le=1.0, description="share of the work that is done")
    seconds_left: float | None = Field(description="estimate while the job runs")
    error: str | None = Field(description="why it failed, or could not be judged yet, one line")
    report: str | None = Field(description="path of the report once the job is done")


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: tuple[JobView, ...]
    next: str | None = Field(description="path of the rest of the list; null at its end")


class Version(BaseModel):
    """What answers."""

    version: str = Field(description="of forgerank")
    weights: str = Field(description="name and version of the weights")
    weights_sha256: str = Field(description="of the file of the network; every report names it too")
    device: str = Field(description="what runs the network: cpu or cuda")
    onnxruntime: str = Field(description="version of ONNX Runtime")


class Health(BaseModel):
    """The server can answer."""

    status: Literal["ok"] = "ok"


def current(request: Request) -> Service:
    """Dependency: the service that a request came to."""
    service: Service = request.app.state.service
    return service


async def known_parameters(request: Request) -> None:
    """Dependency: a parameter that the route does not have is refused rather than passed over.

    Raises RequestValidationError.
    """
    operation = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
    known = [entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "query"]
    advice = f"no such parameter; there are {', '.join(known)}" if known else "there are no parameters"
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        raise RequestValidationError([{"loc": ("query", name), "msg": advice} for name in unknown])


Current = Annotated[Service, Depends(current)]
judging = APIRouter(
    prefix="/v1",
    tags=["judging"],
    responses=documented(401, 403, 421, 422, 500, 503),
    dependencies=[Depends(known_parameters)],
)
operation = APIRouter(tags=["operation"], responses=documented(403, 421))


@judging.post(
    "/detect",
    summary="Judge a photograph at once",
    response_model=ReportFile,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}},
        **documented(400, 408, 413, 415, 422),
    },
    openapi_extra=_UPLOAD,
)
async def detect(
    request: Request,
    service: Current,
    key_id: KeyId,
    name: Name = "",
    form: Form = None,
    thorough: Thorough = False,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """Judge one photograph, told by its content; JSON, or with `format=html` a page with the heatmaps.

    Videos, archives and several photographs are for `POST /v1/jobs`.
    """
    chosen = form or ("html" if prefers_html(accept) else "json")
    client = request.client.host if key_id is None and request.client else key_id

    def write(result: Report, photo: Decoded) -> str:
        service.metrics.verdicts.labels(result.verdict).inc()
        report = ReportBuilder(service.detector.with_thorough(thorough), page=chosen == "html")
        report.add(result, image=photo.image, credentials=photo.credentials)
        return report.html() if chosen == "html" else report.json()

    text = await service.photos.judge(request, name, client, write, thorough=thorough)
    return _report(text, chosen)


@judging.post(
    "/jobs",
    summary="Send a video, an archive or a photograph to be judged later",
    status_code=202,
    response_model=JobView,
    responses={
        202: {"headers": {"Location": {"description": "the job", "schema": {"type": "string"}}}},
        **documented(400, 408, 413, 415, 422),
    },
    openapi_extra=_UPLOAD,
)
async def submit_job(
    request: Request, service: Current, key_id: KeyId, name: Name = "", thorough: Thorough = False
) -> Response:
    """Take a video, a zip or tar archive of photographs and videos, or a photograph, told by its content."""
    settings, uploads = service.settings, service.uploads
    counts = await run_in_threadpool(service.jobs.counts)
    if counts["queued"] >= settings.queue_jobs:  # before gigabytes are sent for nothing
        raise QueueFullError
    try:
        stored, file = uploads.create()
    except OSError as error:
        raise exhausted(error) from None
    try:
        with file:
            own_name = await receive(request, file, settings.upload_bytes)
            await run_in_threadpool(uploads.keep, file)
        path = uploads.path(stored)
        kind, size = kind_of(path), path.stat().st_size
        if kind is None:
            raise ProblemError(415, _unread(path))
        if kind == "photo" and size > settings.photo_bytes:
            raise ProblemError(413, f"a photograph larger than the limit of {settings.photo_bytes} bytes")
        shown = label(name or own_name, kind)
        job = await run_in_threadpool(
            service.jobs.submit, kind, shown, stored, size, key_id=key_id, thorough=thorough
        )
    except OSError as error:
        uploads.remove(stored)
        raise exhausted(error) from None
    except BaseException:
        uploads.remove(stored)
        raise
    view = _view(job)
    return Response(
        view.model_dump_json(), 202, {"Location": f"/v1/jobs/{job.id}"}, media_type="application/json"
    )


def _unread(path: Path) -> str:
    """Why a file that was sent is no job."""
    head = read_head(path)
    if (packed := archive_format(head)) is not None:
        return f"an archive ({packed}) of a kind that is not read: pack its files as zip or tar"
    return unread(head) or "no photograph, video or archive (zip, tar) of a kind that is read"


@judging.get("/jobs", summary="The jobs of a key", responses=documented(404))
def list_jobs(
    service: Current,
    key_id: KeyId,
    state: Annotated[State | None, Query(description="those in this state alone")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="most of one answer")] = 50,
    before: Annotated[str | None, Query(description="id of a job: those that came before it")] = None,
) -> JobList:
    """The jobs that were sent with this key and are not deleted yet, newest first."""
    if before is not None:
        _find(service, before, key_id)
    found = service.jobs.listed(key_id, state=state, before=before, limit=limit + 1)
    following = None
    if len(found) > limit:
        options = {"state": state, "limit": limit, "before": found[limit - 1].id}
        query = urlencode({name: value for name, value in options.items() if value is not None})
        following = f"/v1/jobs?{query}"
    return JobList(jobs=tuple(_view(job) for job in found[:limit]), next=following)


@judging.get("/jobs/{job_id}", summary="How a job stands", responses=documented(404))
def get_job(job_id: str, service: Current, key_id: KeyId) -> JobView:
    """One of the jobs that were sent with this key."""
    return _view(_find(service, job_id, key_id))


@judging.get(
    "/jobs/{job_id}/report",
    summary="The report of a job",
    response_model=ReportFile,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **documented(404, 409, 422)},
)
def get_report(
    job_id: str,
    service: Current,
    key_id: KeyId,
    form: Form = None,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """JSON, or one self-contained HTML page where `format` or the Accept header asks for it."""
    job = _find(service, job_id, key_id)
    if job.state == "failed":
        raise ProblemError(409, f"the job failed: {job.error}")
    if job.state != "done":
        raise ProblemError(409, f"the job is {job.state}", {"Retry-After": _seconds_left(job)})
    chosen = form or ("html" if prefers_html(accept) else "json")
    text = service.jobs.report(job_id, chosen)
    if text is None:  # deleted since
        raise _no_job()
    return _report(text, chosen)


@judging.delete(
    "/jobs/{job_id}",
    summary="Delete a job with its file and its report",
    status_code=204,
    responses=documented(404),
)
def delete_job(job_id: str, service: Current, key_id: KeyId) -> None:
    """A job that runs is given up."""
    _find(service, job_id, key_id)
    if not service.jobs.delete(job_id):
        raise _no_job()


@operation.get("/version", summary="Versions of the program and of the weights")
def version(service: Current) -> Version:
    """As every report names them, too."""
    metadata = service.detector.metadata
    return Version(
        version=__version__,
        weights=f"{metadata.name} {metadata.version}",
        weights_sha256=service.detector.sha256,
        device=service.settings.device,
        onnxruntime=runtime_version(),
    )


@operation.get("/healthz", summary="Whether the server runs")
async def healthz() -> Health:
    """Answers as long as the process can."""
    return Health()


@operation.get("/readyz", summary="Whether the server takes work", responses=documented(503))
def readyz(service: Current) -> Health:
    """503 while the server stops, when its database is away, or when photographs are no longer judged."""
    if service.draining:
        raise busy("the server is stopping")
    if not service.batcher.alive:
        raise busy("photographs are no longer judged")
    service.jobs.counts()  # 503 where the database does not answer
    return Health()


@operation.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(401, 503),
    },
)
def metrics(service: Current, _key: KeyId) -> Response:
    """Requests, queues, batches, jobs and verdicts, in Prometheus' text format."""
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def prefers_html(accept: str) -> bool:
    """Whether an Accept header wants HTML rather than JSON.

    >>> prefers_html("text/html,application/xml;q=0.9,*/*;q=0.8"), prefers_html("*/*")
    (True, False)
    """
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights[kind] = float(quality) if re.fullmatch(r"[01](\.[0-9]{0,3})?", quality) else 0.0
    everything = weights.get("*/*", 0.0)
    html = weights.get("text/html", weights.get("text/*", everything))
    return html > weights.get("application/json", weights.get("application/*", everything))


def _find(service: Service, job_id: str, key_id: int | None) -> Job:
    """Raises ProblemError 404 for a job of another key as for one that does not exist."""
    job = service.jobs.get(job_id) if _JOB_ID.fullmatch(job_id) else None
    if job is None or job.key_id != key_id:
        raise _no_job()
    return job


def _no_job() -> ProblemError:
    return ProblemError(404, "no such job (any more)")


def _view(job: Job) -> JobView:
    report = f"/v1/jobs/{job.id}/report" if job.state == "done" else None
    fields: dict[str, Any] = {name: getattr(job, name) for name in JobView.model_fields if name != "report"}
    return JobView(**fields, report=report)


def _seconds_left(job: Job) -> str:
    return str(round(min(max(job.seconds_left or 2.0, 1.0), 60.0)))


def _report(text: str, form: Literal["json", "html"]) -> Response:
    headers = {"Vary": "Accept"}
    if form == "html":
        return Response(text, 200, {**headers, "Content-Security-Policy": _REPORT_POLICY}, "text/html")
    return Response(text, 200, headers, "application/json")
