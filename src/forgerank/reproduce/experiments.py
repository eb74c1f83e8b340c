"""A table of the paper as a folder: `table.yaml` and one settings file per row; and its runs.

Rows are compared at equal images: all of them see the same images in the same order for a seed, as many
as the budget holds. Equal minutes would reward a row for being cheap, which its own column says.
"""

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

from forgerank.data.formats.recognition import data_settings, find_folders
from forgerank.data.listing import read_json, read_yaml, write_whole
from forgerank.train.checkpoints import BEST, LAST
from forgerank.train.config import TrainConfig, load_config, load_values, merge, parse_config, with_overrides
from forgerank.train.fit import WEIGHTS, run
from forgerank.types import InputError

TABLE, PLAN = "table.yaml", "plan.json"
MINUTES_PER_RUN = 5.0  # where forged data come without a budget
PROBING, TRAINING = 0.03, 0.8  # shares of the budget; the rest starts, validates and evaluates
OVERTIME = 1.1  # no run begins that would end later than so many budgets
EVALUATED = 0.2  # images of the evaluation for each image of a run, at most
OWN = ("output", "seed", "name")  # what `reproduce` sets itself
# What may differ between the settings of a finished run and those asked for.
INCIDENTAL = {
    *("output", "name", "threads", "accelerator", "devices", "nodes", "strategy", "accumulate", "compile"),
    *("checkpoint_activations", "log_steps", "checkpoint_steps", "also_best"),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Frozen):
    """One line of a table; its settings are in the file of its name."""

    title: str
    paper: dict[str, float] = {}  # published figures, percent


class Experiment(_Frozen):
    """What `table.yaml` says."""

    title: str
    origin: str  # where the published figures come from
    size: str  # settings for two cores, a file relative to this one
    figures: tuple[str, ...] = Field(min_length=1)  # columns, in order
    rows: dict[str, Row] = Field(min_length=1)
    others: dict[str, dict[str, float]] = {}  # published figures of methods that are not run, percent
    cross: tuple[str, ...] = ()  # folders beside the training data that the rows are also tested on


class Plan(_Frozen):
    """How long every run of a table is; made once, then kept in plan.json."""

    pictures: int  # of training, per run
    evaluated: int  # images of the evaluation, at most
    minutes_per_run: float | None  # that were asked for; None: a number of images was
    probed: dict[str, float]  # training images per second of each row in a short trial


@dataclass(frozen=True)
class Request:
    """What is to be run, on which data, at what cost."""

    folder: Path  # holds table.yaml
    data: tuple[Path, ...]
    out: Path
    seeds: int = 3
    rows: tuple[str, ...] = ()  # none: every row
    budget: float | None = None  # minutes for all runs together
    pictures: int | None = None  # per run, in place of what the budget would hold
    split: str | None = None  # None: test where the data have one, else val
    overrides: tuple[str, ...] = ()
    progress: bool = True

    @property
    def small(self) -> bool:
        """Whether the runs are of the size for two cores: always so on forged data."""
        forged = any((root / "records").is_dir() for root in self.data)
        return forged or self.budget is not None or self.pictures is not None


def load_experiment(folder: Path) -> Experiment:
    """Read `folder/table.yaml`. Raises InputError, one line, where there is none or a bad one."""
    path = folder / TABLE
    try:
        return Experiment.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def choose_rows(experiment: Experiment, wanted: tuple[str, ...]) -> list[str]:
    """The rows to run, in the table's order. Raises InputError for an unknown one."""
    unknown = [name for name in wanted if name not in experiment.rows]
    if unknown:
        raise InputError(f"--rows {unknown[0]}: the rows are {', '.join(experiment.rows)}")
    return [name for name in experiment.rows if not wanted or name in wanted]


def row_config(
    request: Request, experiment: Experiment, row: str, *, seed: int = 0, images: int | None = None
) -> TrainConfig | None:
    """The settings of one run, or None where `request.data` hold nothing with the row's labels.

    The row's file; over it, for small runs, the table's size; over that the data and `--set`.
    """
    path = request.folder / f"{row}.yaml"
    values = load_values(path)
    if request.small:
        values = merge(values, load_values(request.folder / experiment.size))
    vocabulary = values["data"].get("vocabulary", "components")
    folders = find_folders(request.data, vocabulary)
    if not folders:
        return None
    values = merge(values, {"data": data_settings(folders)})
    for override in request.overrides:
        if override.partition("=")[0] in OWN:
            raise InputError(f"--set {override}: reproduce sets {', '.join(OWN)} itself")
    values = with_overrides(values, request.overrides)
    own = {"output": str(request.out / "runs" / row / f"seed-{seed}"), "seed": seed}
    own |= {"name": f"{request.folder.name}-{row}-{seed}"}
    if images is not None:
        own |= {"images_per_epoch": images, "epochs": 1}
    return parse_config(merge(values, own), str(path))


def make_plan(request: Request, experiment: Experiment, rows: list[str]) -> Plan | None:
    """How many images each run sees: that of plan.json, of the request, or as many as the budget holds.

    None for runs at full size, whose files say it. Raises InputError where plan.json says otherwise than the
    request: rows of one table must be comparable.
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
        _check_plan(plan, request.pictures, minutes, path)
        return plan
    if request.pictures is None:
        minutes = minutes or MINUTES_PER_RUN
        trial = PROBING * minutes * request.seeds  # minutes, for each row
        found = {row: _probe(request, experiment, row, trial) for row in rows}
        speeds = {row: speed for row, speed in found.items() if speed is not None}
        if not speeds:
            raise InputError(f"{request.data[0]}: holds no data for {request.folder.name}")
        seconds = TRAINING * 60 * minutes * len(speeds)  # for one run of every row
        images = max(1, int(seconds / sum(1 / speed for speed in speeds.values())))
    else:
        speeds, images = {}, request.pictures
    evaluated = max(64, int(EVALUATED * images))
    plan = Plan(pictures=images, evaluated=evaluated, minutes_per_run=minutes, probed=speeds)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{plan.model_dump_json(indent=2)}\n".encode())
    return plan


def _check_plan(plan: Plan, images: int | None, minutes: float | None, path: Path) -> None:
    if images is not None and images != plan.pictures:
        raise InputError(f"{path}: its runs see {plan.pictures} images: choose another --out")
    planned = plan.minutes_per_run
    if minutes is not None and planned is not None and not math.isclose(minutes, planned, rel_tol=0.1):
        reason = f"its runs take {planned:.1f} minutes, not {minutes:.1f}"
        raise InputError(f"{path}: {reason}: leave out --budget or choose another --out")


def _probe(request: Request, experiment: Experiment, row: str, minutes: float) -> float | None:
    """Training images per second in a trial of so many minutes; None without data for the row."""
    config = row_config(request, experiment, row)
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
    # From the first step to the last: what starts a run would weigh too much in a short trial.
    return (len(times) - 1) * config.batch_size / (times[-1] - times[0])


def train_missing(config: TrainConfig, *, progress: bool = True) -> Path:
    """Train, go on with, or just find the run of `config`; returns the checkpoint to evaluate.

    Raises InputError where its folder holds a run with other settings.
    """
    folder = config.output
    if (folder / "config.yaml").is_file():
        difference = _first_difference(load_config(folder / "config.yaml"), config)
        if difference:
            raise InputError(f"{folder}: was trained with another {difference}: choose another --out")
    if not (folder / WEIGHTS).is_file():
        run(config, resume=(folder / LAST).is_file(), progress=progress)
    # Chosen on the validation split; in a run of one epoch it is the last.
    return folder / BEST if (folder / BEST).is_file() else folder / WEIGHTS


def progress_of(folder: Path) -> tuple[int, float, int]:
    """Steps, seconds and images of the run in `folder` so far, over all its sessions."""
    checkpoint = torch.load(folder / LAST, map_location="cpu", weights_only=True)
    steps = int(checkpoint["global_step"])
    return steps, float(checkpoint["elapsed_seconds"]), steps * int(checkpoint["settings"]["batch_size"])


@dataclass
class Clock:
    """Tells whether another run still fits the budget, from how long the runs of this session took."""

    budget: float | None  # minutes

    def __post_init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._longest = 0.0

    def lap(self) -> None:
        """A run has ended."""
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now

    @property
    def over(self) -> bool:
        """Whether the next run would end too late."""
        used = time.monotonic() - self._started
        return self.budget is not None and used + self._longest > OVERTIME * 60 * self.budget


def _first_difference(before: TrainConfig, now: TrainConfig) -> str | None:
    """The first key whose values differ and matter, or None."""
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
