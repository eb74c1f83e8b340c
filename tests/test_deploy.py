"""The container, the compose file and the unit for systemd: read and checked; built where there is Docker."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from forgerank.cli.main import app

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
INSTRUCTIONS = {
    "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip


def options_of(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, Any]:
    """What `forgerank` makes of a command line and of variables of the environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    name, *rest = arguments
    group = typer.main.get_command(app)
    command = getattr(group, "commands")[name]  # noqa: B009
    parameters: dict[str, Any] = command.make_context(name, list(rest)).params
    return parameters


def instructions(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    parts = [line.partition(" ") for line in joined.splitlines() if line]
    return [(name, rest.strip()) for name, _, rest in parts]


def test_the_dockerfile(monkeypatch: pytest.MonkeyPatch) -> None:
    found = instructions(DEPLOY / "Dockerfile")
    assert {name for name, _ in found} <= INSTRUCTIONS
    images = [rest.split()[0] for name, rest in found if name == "FROM"]
    assert all(re.fullmatch(r"[a-z/]+:[\w.-]*\d[\w.-]*", image) for image in images), "a version for each"
    *_, last_user = [rest for name, rest in found if name == "USER"]
    assert last_user not in {"root", "0"}
    for name, rest in found:
        if name == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources)
    forms = {name: json.loads(rest) for name, rest in found if name in {"ENTRYPOINT", "CMD"}}
    assert forms["ENTRYPOINT"] == ["forgerank"]
    [environment] = [rest for name, rest in found if name == "ENV"]
    variables = dict(pair.split("=", 1) for pair in shlex.split(environment))
    data = variables["FORGERANK_DATA"]
    options = options_of(forms["CMD"], monkeypatch, FORGERANK_DATA=data)
    assert (options["data"], options["host"]) == (Path(data), "0.0.0.0")
    assert [rest for name, rest in found if name == "VOLUME"] == [data]
    [health] = [rest for name, rest in found if name == "HEALTHCHECK"]
    compile(json.loads(health[health.index("[") :])[2], "the health check", "exec")


def test_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    described = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert set(described) == {"services", "networks", "volumes"}
    for service in described["services"].values():
        assert set(service["networks"]) <= set(described["networks"])
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(described["volumes"])
    service, database = (described["services"][name] for name in ("service", "database"))
    build = service["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert database["image"].startswith("postgres:")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "a proxy has the open address"
    options = options_of(service["command"], monkeypatch, **service["environment"])
    assert options["database"].startswith("postgresql://forgerank:${POSTGRES_PASSWORD")
    assert options["database"].endswith("@database/" + database["environment"]["POSTGRES_DB"])


def test_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "forgerank.service").read_text(encoding="utf-8")
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    assert parser.sections() == ["Unit", "Service", "Install"]
    program, *arguments = parser["Service"]["ExecStart"].split()
    assert program.endswith("/bin/forgerank")
    options = options_of(arguments, monkeypatch)
    assert options["data"] == Path("/var/lib") / parser["Service"]["StateDirectory"]
    if shutil.which("systemd-analyze"):
        unit = tmp_path / "forgerank.service"
        unit.write_text(text.replace(program, "/bin/true"), encoding="utf-8")
        command = ["systemd-analyze", "verify", unit]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert [line for line in checked.stderr.splitlines() if "forgerank.service" in line] == []


@pytest.mark.slow
def test_the_container_is_built(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if not os.environ.get("CI") or docker is None:
        pytest.skip("built in CI, where there is Docker")
    if subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        pytest.skip("Docker does not run here")
    name = "forgerank-test"
    subprocess.run([docker, "build", "-q", "-f", DEPLOY / "Dockerfile", "-t", name, ROOT], check=True)
    shown = subprocess.check_output([docker, "run", "--rm", name, "--version"], text=True)
    assert shown.startswith("forgerank ")
