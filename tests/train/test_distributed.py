"""Several processes on one machine, as torchrun starts them, against one: on the CPU, through gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from forgerank.train import fit
from forgerank.train.config import load_config
from squares import tiny_settings

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

# Every term is a mean over images, nothing is normalised over a batch, and nothing is drawn at random: what
# is left between one process and two is the order of additions.
EQUAL = {
    "epochs": 2,
    "checkpoint_steps": 2,
    "data": {"train_images": 40, "val_images": 15},
    "model": {"fold_norm": True, "dropout": 0.0},
    "loss": {"direct": "none"},
    "optim": {"lr": 1e-3, "backbone_lr": 1e-3},
}
STEPS, DEATH = 10, 7
TOLERANCE = 1e-3  # of each metric and of each weight; measured: see the docs

# One process kills itself once; torchrun ends the other and starts both again, which resume.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from forgerank.cli.main import main
from forgerank.train.module import ForgeryModule

original, marker = ForgeryModule.on_train_batch_start, Path(sys.argv.pop())

def fatal(self, batch, batch_idx):
    if self.global_rank == 1 and self.global_step == {death} and not marker.exists():
        marker.write_text(str(self.global_step))
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, batch, batch_idx)

ForgeryModule.on_train_batch_start = fatal
main()
"""


def write_config(squares: Path, folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_settings(squares, folder / "run", **{**EQUAL, **changes})))
    return path


def torchrun(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Two processes, one of which dies by `kill -9` in step DEATH; torchrun starts both again."""
    program = folder / "program.py"
    program.write_text(PROGRAM.format(death=DEATH))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", str(program), "train", str(config), "--resume", str(folder / "died")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    # Else the processes of the second attempt may find the addresses of the first one's dead.
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def alone(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one process that nobody disturbed."""
    config = write_config(squares, tmp_path_factory.mktemp("alone"))
    return fit.run(load_config(config), progress=False).parent


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_one_of_them_killed_give_what_one_gives(
    squares: Path, alone: Path, tmp_path: Path, strategy: str
) -> None:
    done = torchrun(tmp_path, write_config(squares, tmp_path, strategy=strategy, accumulate=2))
    assert done.returncode == 0, done.stderr[-4000:]
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
