from pathlib import Path
from typing import Any

import pytest
import yaml

from forgerank.data.prepare.pack_writer import load_recipe
from forgerank.train.config import load_config, parse_config
from forgerank.types import InputError
from squares import tiny_settings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    settings = tiny_settings(tmp_path, tmp_path / "run")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "tiny.yaml"


RECIPE = CONFIGS / "pack.yaml"  # of a pack, not of a run


# tests/reproduce/test_table_file.py loads every row of the tables.
@pytest.mark.parametrize("name", ["default", "own-photographs", "paper"])
def test_shipped_configs_are_valid(name: str) -> None:
    assert load_config(CONFIGS / f"{name}.yaml").output.parts[0] == "runs"


def test_the_shipped_recipe_is_valid_and_holds_the_sources_of_the_default_run() -> None:
    packed = {source.name for source in load_recipe(RECIPE).sources}
    for source in load_config(CONFIGS / "default.yaml").data.sources:
        options = source.options
        assert {*options.get("sources", ()), *options.get("without", ())} <= packed


def test_the_paper_config_is_the_paper() -> None:
    config = load_config(CONFIGS / "paper.yaml")
    assert (config.model.backbone, config.model.input_size, config.model.width) == ("resnet50", 256, 256)
    assert (config.loss.order, config.loss.direct, config.loss.k_points) == ("first_to_last", "none", 100)
    assert (config.optim.lr, config.optim.backbone_lr, config.optim.clip) == (1e-3, 1e-4, 0.1)
    assert (config.batch_size, config.epochs) == (32, 170)
    shares = (config.optim.warmup, *config.optim.milestones)
    assert [round(share * 170) for share in shares] == [20, 70, 120]


def test_overrides_are_yaml(path: Path) -> None:
    overrides = ["loss.tau=0.2", "data.workers=3", "max_minutes=null", "model.levels=[8, 16]", "name=x"]
    config = load_config(path, overrides)
    assert (config.loss.tau, config.data.workers, config.max_minutes, config.name) == (0.2, 3, None, "x")
    assert config.model.levels == (8, 16)


def test_the_resolved_config_reads_back(path: Path, tmp_path: Path) -> None:
    config = load_config(path, ["seed=5"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(resolved) == config


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("optim.speed=1", r"tiny\.yaml: optim\.speed: unknown key"),
        ("sped=1", r"tiny\.yaml: sped: unknown key"),
        ("batch_size=0", r"tiny\.yaml: batch_size: .*greater than or equal to 1"),
        ("data.dataset=celeb", "dataset must be one of seqdeepfake"),
        ("data.vocabulary=binary", "model.components is 5, but the labels are face"),
        ("data.mask_size=null", "lambda_mask needs"),
        ("accumulate=3", "accumulate 3 must divide batch_size 8"),
        ("init_from_only=backbone.", "init_from_only backbone. needs init_from$"),
        ("devices=0", r"devices: .*greater than or equal to 1"),
        ("strategy=zero", r"strategy: Input should be 'auto', 'ddp' or 'fsdp'"),
        ("batch_size.x=1", "batch_size holds no keys"),
        ("name", "--set name: give KEY=VALUE"),
        ("name=[", "not YAML"),
    ],
)
def test_errors_are_one_line_with_the_key(path: Path, override: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        load_config(path, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "reason"), [("a: [", "is not YAML"), ("- 1", "expected keys")])
def test_broken_files(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=reason):
        load_config(tmp_path / "bad.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["compile=true", "checkpoint_activations=true"], "compile goes neither"),
        (["compile=true", "strategy=fsdp"], "compile goes neither"),
        (["optim.frozen_stride=8"], "optim.frozen_stride needs model.fold_norm"),
        (["precision=16-mixed", "strategy=fsdp"], "fsdp takes precision 32-true or bf16-mixed"),
    ],
)
def test_settings_that_exclude_each_other(path: Path, overrides: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_config(path, overrides)


SOURCES = [{"name": "a", "roots": ["x"]}, {"name": "b", "roots": ["y"], "partners": ["a"]}]


def sourced(tmp_path: Path, sources: list[dict[str, Any]], **data: Any) -> dict[str, Any]:
    return tiny_settings(tmp_path, tmp_path / "run", data={"roots": [], "sources": sources, **data})


def test_several_sources_share_a_run(tmp_path: Path) -> None:
    data = parse_config(sourced(tmp_path, SOURCES), "test").data
    assert [(source.dataset, source.share, source.validate_on) for source in data.sources] == [
        ("pack", 1.0, True)
    ] * 2
    assert data.sources[1].partners == ("a",)


@pytest.mark.parametrize(
    ("sources", "roots", "reason"),
    [
        ([], [], "give either roots or sources"),
        (SOURCES, ["x"], "give either roots or sources"),
        ([SOURCES[0]] * 2, [], "two sources have one name"),
        ([{**SOURCES[0], "name": "all"}], [], "no source may be called all"),
        ([SOURCES[1]], [], "b: no source is called a"),
        ([SOURCES[0] | {"share": 0}], [], "no source has a share of the batches"),
        ([SOURCES[0] | {"dataset": "celeb"}], [], r"data\.sources\.0\.dataset: .*must be one of"),
        ([SOURCES[0] | {"roots": []}], [], r"data\.sources\.0\.roots"),
        ([SOURCES[0] | {"shares": 1}], [], r"data\.sources\.0\.shares: unknown key"),
    ],
)
def test_sources_that_make_no_mixture(
    tmp_path: Path, sources: list[dict[str, Any]], roots: list[str], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        parse_config(sourced(tmp_path, sources, roots=roots), "test")
