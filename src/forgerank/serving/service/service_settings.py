"""All settings of the service, with units. The command line fills them in."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ServiceSettings(BaseModel):
    """Settings of one server and its workers; frozen, and small enough to be sent to a worker process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # where things are
    data: Path = Field(description="folder of uploads and, without `database`, of the SQLite file")
    database: str | None = Field(
        None, description="postgresql://user:password@host/name, or sqlite:///file; none: SQLite in `data`"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    web: bool = Field(False, description="serve the web page at / too")
    access_log: bool = Field(True, description="a line on standard error for every request, probes apart")
    drain_seconds: float = Field(
        1.0,
        ge=0,
        description="seconds for which a server that stops says so at /readyz first",
    )

    # who may ask
    require_keys: bool = Field(True, description="API keys are required; may be off on loopback alone")

    # the detector
    weights: Path | None = Field(None, description="folder with forgerank.json; none: the package's own")
    detector: str = Field("blazeface", description="face detector: blazeface or retinaface")
    detector_weights: Path | None = Field(None, description="ONNX file, needed for retinaface")
    device: str = Field("cpu", description="what runs the network: cpu, or cuda with onnxruntime-gpu")
    threads: int | None = Field(None, ge=1, description="cores for the network; none: all usable ones")

    # photographs answered at once
    batch_size: int = Field(8, ge=1, description="most photographs judged together")
    batch_window: float = Field(0.005, ge=0, description="seconds a photograph waits for company")
    queue_photos: int = Field(64, ge=1, description="photographs that may wait; more are answered with 503")
    photo_seconds: float = Field(60.0, gt=0, description="seconds after which a photograph is given up")
    decode_seconds: float = Field(20.0, gt=0, description="seconds that decoding a photograph may take")

    # limits on what is sent
    photo_bytes: int = Field(50_000_000, ge=1, description="largest photograph, bytes")
    upload_bytes: int = Field(2_000_000_000, ge=1, description="largest video or archive, bytes")
    photo_pixels: int = Field(80_000_000, ge=1, description="largest photograph, pixels")
    video_seconds: float = Field(3600.0, gt=0, description="longest video, seconds")
    video_fps: float = Field(2.0, gt=0, le=60, description="frames judged per second of video")
    archive_entries: int = Field(
        200, ge=1, description="most entries of an archive, folders included; litter and edit lists apart"
    )
    archive_bytes: int = Field(2_000_000_000, ge=1, description="most bytes that an archive may expand to")
    archive_ratio: float = Field(
        100.0, gt=1, description="most expanded bytes per byte of it; 10 MB are free"
    )

    # jobs
    workers: int = Field(1, ge=0, description="processes that judge jobs; 0: other servers' workers do")
    worker_threads: int | None = Field(None, ge=1, description="cores of each worker; none: all usable ones")
    queue_jobs: int = Field(1000, ge=1, description="jobs that may wait; more are answered with 503")
    lease_seconds: float = Field(
        30.0, gt=0, description="after so long without a sign a worker counts as dead"
    )
    attempts: int = Field(3, ge=1, description="workers that one job may cost before it fails")
    trouble_seconds: float = Field(
        86_400.0, ge=0, description="seconds for which a job is tried again that the server's trouble held up"
    )
    job_seconds: float = Field(3600.0, gt=0, description="seconds of work after which a job fails")
    poll_seconds: float = Field(0.25, gt=0, description="how often an idle worker looks for a job, seconds")
    retention_seconds: float = Field(
        86_400.0,
        gt=0,
        description="seconds after its end at which a job, its report and its file are deleted",
    )
    keep_uploads: bool = Field(False, description="keep a job's file until then, not only until it is judged")

    @property
    def database_url(self) -> str:
        """The URL as SQLAlchemy takes it."""
        if self.database is None:
            return f"sqlite:///{self.data.absolute() / 'forgerank.sqlite3'}"
        scheme, _, rest = self.database.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else self.database

    @model_validator(mode="after")
    def _keys_off_loopback(self) -> Self:
        if not self.require_keys and self.host not in LOOPBACK:
            raise ValueError(f"API keys can be switched off on loopback only, not on {self.host}")
        return self
