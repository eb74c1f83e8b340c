"""A queue of jobs whose clock the test sets."""

from dataclasses import dataclass, field

from sqlalchemy import Engine

from forgerank.serving.service.jobs import Job, Jobs
from forgerank.serving.service.service_settings import ServiceSettings
from forgerank.serving.service.uploads import Kind, Uploads


@dataclass
class Store:
    """A queue with a clock that stands still until it is set, and the files behind it."""

    engine: Engine
    settings: ServiceSettings
    uploads: Uploads
    now: float = 1_000_000_000.0
    jobs: Jobs = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = self.with_settings()

    def with_settings(self, **changes: object) -> Jobs:
        """The same queue as a server with other settings has it."""
        settings = self.settings.model_copy(update=changes)
        return Jobs(self.engine, self.uploads, settings, clock=lambda: self.now)

    def submit(self, content: bytes = b"content", kind: Kind = "photo", name: str = "a.jpg") -> Job:
        stored, file = self.uploads.create()
        file.write(content)
        self.uploads.keep(file)
        self.now += 1
        return self.jobs.submit(kind, name, stored, len(content))

    def files(self) -> list[str]:
        return sorted(path.name for path in self.uploads.folder.iterdir())
