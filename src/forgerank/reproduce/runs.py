"""The runs of a table: their settings, how many images each sees, and their training.

All rows of a table are compared at equal images: for a seed they see the same images in the same order, as
many as the budget holds. Equal minutes would favour cheap rows; the cost of a row has a column of its own.
"""

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

from forgerank.data.formats.registry import data_settings, find_folders
from forgerank.files import make_folder, read_json, read_yaml, write_atomic
from forgerank.reproduce.table_file import Table, row_values
from forgerank.train.checkpoints import BEST, LAST
from forgerank.train.config import TrainConfig, merge, parse_config, with_overrides
from forgerank.train.fit import WEIGHTS, run
from forgerank.types import InputError
from forgerank.weights.description import RUN_FILE
from forgerank.weights.hub import read_checkpoint
from forgerank.weights.renamed_keys import convert_settings

PLAN = "plan.json"
DEFAULT_MINUTES = 5.0  # per run on forged data, without a budget
PROBE_SHARE, TRAINING_SHARE = 0.03, 0.8  # of the budget; the rest starts, validates and evaluates the runs
OVERTIME = 1.1  # no run begins that would end later than so many budgets
EVALUATED_SHARE = 0.2  # images of the evaluation for each training image of a run, at most
SET_HERE = ("output", "seed", "name")  # settings that `reproduce` sets itself
# Settings that do not change the result: a finished run is used again whatever their values.
INCIDENTAL = {
    *("output", "name", "threads", "accelerator", "devices", "nodes", "strategy", "accumulate", "compile"),
    *("checkpoint_activations", "log_steps", "checkpoint_steps", "also_best"),
}


class Plan(BaseModel):
    """How much every run of a table sees; made once, then kept in plan.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int = Field(alias="pictures")  # of training, per run
    evaluated: int  # images of the evaluation, at most
    minutes_per_run: float | None  # as requested; None: the request gave a number of images
    probed: dict[str, float]  # training images per second of each row in a short trial


@dataclass(frozen=True)
class Request:
    """Which rows of which table are run, on which data, at what cost."""

    table: Path  # YAML file
    data: tuple[Path, ...]
    out: Path
    seeds: int = 3
    rows: tuple[str, ...] = ()  # none: every row
    budget: float | None = None  # minutes for all runs together
    images: int | None = None  # of training, per run, in place of what the budget would hold
    split: str | None = None  # None: test where the data have one, else val
    overrides: tuple[str, ...] = ()
    progress: bool = True

    @property
    def forged(self) -> bool:
        """Whether some of the data come from the forge."""
        return any((root / "records").is_dir() for root in self.data)

    @property
    def small(self) -> bool:
        """Whether the runs are of the size for two cores: always so on forged data."""
        return self.forged or self.budget is not None or self.images is not None


def row_config(
    request: Request, table: Table, row: str, *, seed: int = 0, images: int | None = None
) -> TrainConfig | None:
    """The settings of one run, or None where `request.data` hold nothing with the row's labels.

    `images` replaces the length of the run that the settings give.
    """
    values = row_values(request.table, table, row, small=request.small)
    vocabulary = values["data"].get("vocabulary", "components")
    folders = find_folders(request.data, vocabulary, table.rows[row].folder)
    if not folders:
        return None
    for override in request.overrides:
        if override.partition("=")[0] in SET_HERE:
            raise InputError(f"--set {override}: reproduce sets {', '.join(SET_HERE)} itself")
    here = data_settings(folders)
    if here["dataset"] != values["data"].get("dataset", here["dataset"]):
        here["options"] = None  # those of another data set's reader
    if request.forged:
        # Photographs of any size and pose, unlike the crops of the academic sets.
        here["align"] = True
    values = merge(values, {"data": here})
    values["data"]["options"] = values["data"].get("options") or {}
    values = with_overrides(values, request.overrides)
    own = {
        "output": str(request.out / "runs" / row / f"seed-{seed}"),
        "seed": seed,
        "name": f"{request.table.stem}-{row}-{seed}",
    }
    if images is not None:
        own |= {"images_per_epoch": images, "epochs": 1}
    return parse_config(merge(values, own), f"{request.table}: {row}")


def make_plan(request: Request, table: Table, rows: list[str]) -> Plan | None:
    """How many images each run sees: as in plan.json, as requested, or as many as the budget holds.

    None for runs at full size, whose length is that of the table's settings. Raises InputError where
    plan.json and the request differ: all rows of one table must see the same number of images.
    """
    if not request.small:
        return None
    path = request.out / PLAN
    minutes = None if request.budget is None else request.budget / (len(rows) * request.seeds)
    if path.is_file():
        try:
            plan = Plan.model_validate(read_json(path))
        except ValidationError as error:
            raise InputError(f"{path}: no plan of this version: choose another --out") from error
        _check_plan(plan, request.images, minutes, path)
        return plan
    if request.images is None:
        minutes = minutes or DEFAULT_MINUTES
        trial = PROBE_SHARE * minutes * request.seeds  # minutes, for each row
        found = {row: _probe(request, table, row, trial) for row in rows}
        speeds = {row: speed for row, speed in found.items() if speed is not None}
        if not speeds:
            raise InputError(f"{request.data[0]}: holds no data for {request.table.stem}")
        seconds = TRAINING_SHARE * 60 * minutes * len(speeds)  # for one run of every row
        images = max(1, int(seconds / sum(1 / speed for speed in speeds.values())))
    else:
        speeds, images = {}, request.images
    evaluated = max(64, int(EVALUATED_SHARE * images))
    plan = Plan(pictures=images, evaluated=evaluated, minutes_per_run=minutes, probed=speeds)
    make_folder(path.parent)
    write_atomic(path, f"{plan.model_dump_json(indent=2, by_alias=True)}\n".encode())
    return plan


def _check_plan(plan: Plan, images: int | None, minutes: float | None, path: Path) -> None:
    if images is not None and images != plan.images:
        raise InputError(f"{path}: its runs see {plan.images} images: choose another --out")
    planned = plan.minutes_per_run
    if minutes is not None and planned is not None and not math.isclose(minutes, planned, rel_tol=0.1):
        reason = f"its runs take {planned:.1f} minutes, not {minutes:.1f}"
        raise InputError(f"{path}: {reason}: leave out --budget or choose another --out")


def _probe(request: Request, table: Table, row: str, minutes: float) -> float | None:
    """Training images per second in a trial of so many minutes; None without data for the row."""
    config = row_config(request, table, row)
    if config is None:
        return None
    folder = request.out / "probe" / row
    shutil.rmtree(folder, ignore_errors=True)
    data = config.data.model_copy(update={"val_images": config.batch_size})
    trial = {"output": folder, "epochs": 1, "images_per_epoch": 10**7, "max_minutes": minutes, "data": data}
    run(config.model_copy(update={**trial, "log_steps": 1}), progress=False)
    log = event_accumulator.EventAccumulator(str(folder / "tensorboard"))
    log.Reload()
    times: list[float] = [event.wall_time for event in log.Scalars("train/total")]
    _, seconds, images = progress_of(folder)
    shutil.rmtree(folder)
    if len(times) < 3:
        return images / seconds
    # From the first step to the last: the start of a run takes too large a share of a short trial.
    return (len(times) - 1) * config.batch_size / (times[-1] - times[0])


def train_missing(config: TrainConfig, *, progress: bool = True) -> Path:
    """Train or resume the run of `config` unless it is finished; returns the checkpoint to evaluate.

    Raises InputError where its output folder holds a run with other settings.
    """
    folder = config.output
    if (folder / "config.yaml").is_file():
        settings = convert_settings(read_yaml(folder / "config.yaml"))
        difference = _first_difference(parse_config(settings, str(folder / "config.yaml")), config)
        if difference:
            raise InputError(f"{folder}: was trained with another {difference}: choose another --out")
    if not (folder / RUN_FILE).is_file():  # written last
        run(config, resume=(folder / LAST).is_file(), progress=progress)
    # The best on the validation split; in a run of one epoch that is the last.
    return folder / BEST if (folder / BEST).is_file() else folder / WEIGHTS


def progress_of(folder: Path) -> tuple[int, float, int]:
    """Steps, seconds and training images of the run in `folder`, over all its sessions."""
    checkpoint = read_checkpoint(folder / LAST)
    steps = int(checkpoint["global_step"])
    return steps, float(checkpoint["elapsed_seconds"]), steps * int(checkpoint["settings"]["batch_size"])


@dataclass
class Clock:
    """Whether another run fits the budget, estimated from the longest run of this session."""

    budget: float | None  # minutes

    def __post_init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._longest = 0.0

    def lap(self) -> None:
        """Record the end of a run."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now

    @property
    def over(self) -> bool:
        """Whether the next run would end too late."""
        used = time.monotonic() - self._started
        return self.budget is not None and used + self._longest > OVERTIME * 60 * self.budget


def _first_difference(before: TrainConfig, now: TrainConfig) -> str | None:
    """The first key whose values differ and that changes the result, or None."""
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    for settings in (old, new):
        for key in ("workers", "points_cache", "val_images"):
            settings["data"].pop(key)
    for key, value in new.items():
        if key in INCIDENTAL or old[key] == value:
            continue
        if isinstance(value, dict):
            return next(f"{key}.{part}" for part in value if old[key].get(part) != value[part])
        return key
    return None
