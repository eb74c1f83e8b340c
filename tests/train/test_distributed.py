"""Several processes on one machine, as torchrun starts them, against one: on the CPU, through gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
import yaml
from safetensors.torch import load_file

from faults import left, marked
from forgerank.train import fit
from forgerank.train.config import load_config
from forgerank.weights.hub import read_checkpoint
from squares import tiny_settings

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

# Every term is a mean over images, nothing is normalised over a batch, and nothing is drawn at random: what
# is left between one process and two is the order of additions.
EQUAL: dict[str, Any] = {
    "epochs": 2,
    "checkpoint_steps": 2,
    "data": {"train_images": 40, "val_images": 15},
    "model": {"fold_norm": True, "dropout": 0.0},
    "loss": {"direct": "none"},
    "optim": {"lr": 1e-3, "backbone_lr": 1e-3},
}
WORKERS = {**EQUAL["data"], "workers": 1}
STEPS, DEATH = 10, 7
TOLERANCE = 1e-3  # of each metric and of each weight; measured: see the docs

# Once, in a hook of one process: it kills itself, upon which torchrun ends the other and starts both again,
# which resume; or it has torchrun end both.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from forgerank.cli.main import main
from forgerank.train.module import ForgeryModule

def run():
    hook, stage, step, marker = sys.argv[-4:]
    del sys.argv[-4:]
    original, marker = getattr(ForgeryModule, hook), Path(marker)

    def fatal(self, *arguments):
        here = self.trainer.state.fn == stage and self.global_step == int(step)
        if here and self.global_rank == 1 and not marker.exists():
            marker.write_text(step)
            {act}
        return original(self, *arguments)

    setattr(ForgeryModule, hook, fatal)
    main()

if __name__ == "__main__":  # the loaders' workers import this file
    run()
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
ENDED = "os.kill(os.getppid(), signal.SIGTERM); time.sleep(2)"


def write_config(squares: Path, folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_settings(squares, folder / "run", **{**EQUAL, **changes})))
    return path


def torchrun(
    folder: Path, config: Path, act: str, where: tuple[str, str, int], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Two processes, one of which acts in a hook, in fit or validation, after so many steps."""
    program = folder / "program.py"
    program.write_text(PROGRAM.format(act=act))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", "--log-dir", str(folder / "logs"), "--redirects", "3", str(program)]
    command += ["train", str(config), "--resume", *map(str, where), str(folder / "died")]
    environment |= {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONWARNINGS"] = "ignore"
    # Else the processes of the second attempt may find the addresses of the first one's dead.
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def said(folder: Path) -> dict[str, str]:
    """Standard error of each process, by the number of the attempt and its own."""
    logs = sorted(folder.glob("logs/*/attempt_*/*/stderr.log"))
    return {"/".join(log.parts[-3:-1]): log.read_text() for log in logs}


@pytest.fixture(scope="module")
def alone(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one process that nobody disturbed."""
    config = write_config(squares, tmp_path_factory.mktemp("alone"))
    return fit.run(load_config(config), progress=False).parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "step"),
    [(("on_train_batch_start", "fit", DEATH), DEATH + 1), (("validation_step", "validate", STEPS), STEPS)],
    ids=["step", "validation"],
)
def test_sigterm_ends_two_processes_with_one_checkpoint(
    squares: Path, tmp_path: Path, where: tuple[str, str, int], step: int
) -> None:
    name, value = "FORGERANK_TEST", uuid4().hex
    config = write_config(squares, tmp_path, data=WORKERS)
    done = torchrun(tmp_path, config, ENDED, where, **{name: value})
    assert done.returncode != 0
    assert left(lambda: marked(f"{name}={value}")) == {}
    run = tmp_path / "run"
    texts = said(tmp_path).values()
    assert len(texts) == 2
    lines = "".join(texts).splitlines()
    line = f"forgerank: stopped by SIGTERM after step {step}; go on from {run / 'last.ckpt'} with --resume"
    assert [text for text in lines if text.startswith("forgerank")] == [line]
    assert not any("Traceback" in text for text in lines)
    assert read_checkpoint(run / "last.ckpt")["global_step"] == step
    assert not list(run.glob("*.partial"))
    assert not (run / "weights.safetensors").exists()


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_one_of_them_killed_give_what_one_gives(
    squares: Path, alone: Path, tmp_path: Path, strategy: str
) -> None:
    config = write_config(squares, tmp_path, strategy=strategy, accumulate=2, data=WORKERS)
    name, value = "FORGERANK_TEST", uuid4().hex
    where = ("on_train_batch_start", "fit", DEATH)
    done = torchrun(tmp_path, config, KILLED, where, **{name: value})
    assert left(lambda: marked(f"{name}={value}")) == {}
    assert done.returncode == 0, [*said(tmp_path).items(), done.stderr]
    assert (tmp_path / "died").read_text() == str(DEATH)

    run = tmp_path / "run"
    assert not list(run.glob("*.partial"))
    last = torch.load(run / "last.ckpt", weights_only=True)
    assert last["global_step"] == STEPS
    one, two = (json.loads((folder / "weights.json").read_text())["metrics"] for folder in (alone, run))
    assert two == pytest.approx(one, abs=TOLERANCE)
    expected, found = load_file(alone / "weights.safetensors"), load_file(run / "weights.safetensors")
    assert expected.keys() == found.keys()
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=0, atol=TOLERANCE, msg=name)
