import json
from typing import Any

import pytest
import yaml

from forgerank.weights.card import model_card
from forgerank.weights.description import ASSETS

OWN = json.loads((ASSETS / "forgerank.json").read_text())


def matter(card: str) -> dict[str, Any]:
    """The front matter, as a hub would read it."""
    empty, text, body = card.split("---\n", 2)
    assert empty == ""
    assert body.startswith("\n# Model card: ")
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def cells(card: str, row: str) -> list[str]:
    (line,) = (line for line in card.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def evaluation(value: float | None, **changes: Any) -> dict[str, Any]:
    metrics = {
        "auc": {"value": value, "low": 0.8, "high": 0.9},
        "quite_new": {"value": 0.5, "low": 0.4, "high": 0.6},
    }
    return {
        "pictures": 10,
        "real": 4,
        "metrics": metrics,
        "by_component": [0.1, 0.2, 0.3, 0.4, None],
        **changes,
    }


def test_the_packages_own_card_states_what_its_json_holds() -> None:
    card = model_card(OWN)
    read = matter(card)
    assert read["license"] == "other"
    assert (read["library_name"], read["pipeline_tag"]) == ("forgerank", "image-classification")
    measured = {metric["type"]: metric["value"] for metric in read["model-index"][0]["results"][0]["metrics"]}
    assert measured["auc"] == round(OWN["metrics"]["metrics"]["auc"]["value"], 4)
    own, cuts = OWN["metrics"], OWN["thresholds"]
    auc, held_out = own["metrics"]["auc"], own["held_out"]["plain"]
    assert cells(card, "AUC of P(x)") == [f"{auc['value']:.3f} ({auc['low']:.3f}-{auc['high']:.3f})"]
    assert cells(card, "scored (real)") == [f"{own['pictures']} ({own['real']})"]
    assert cells(card, "val split") == [f"{value:.3f}" for value in own["by_component"]]
    for fact in (
        OWN["files"]["onnx"]["sha256"],
        "**Terms.** Non-commercial research use only",
        "`ranking` on the backbone `tf_efficientnet_lite0`",
        f"{(OWN['input_size'] // 16) ** 2} patch tokens of width 128, transformer of 2 layers with 4 heads.",
        f"lambda_direct (pairwise) 2, lambda_mask {OWN['settings']['loss']['lambda_mask']:g}",
        f"forged from {cuts['forged']:.3f}, real under {cuts['real']:.3f}",
        f"plain images: {held_out['false_positive_rate']:.1%} of real faces called forged,"
        f" {held_out['true_positive_rate']:.1%} of forged ones found",
        'Detector("weights")',
    ):
        assert fact in card


def test_evaluations_stand_side_by_side_with_what_one_lacks_left_open() -> None:
    card = model_card(OWN, evaluations={"plain": evaluation(0.85), "check": evaluation(None)})
    assert "|  | plain | check |" in card
    assert cells(card, "AUC of P(x)") == ["0.850 (0.800-0.900)", "-"]
    assert cells(card, "quite new") == ["0.500 (0.400-0.600)"] * 2
    assert cells(card, "check") == ["0.100", "0.200", "0.300", "0.400", "-"]
    results = matter(card)["model-index"][0]["results"]
    assert [[metric["type"] for metric in result["metrics"]] for result in results] == [
        ["auc", "quite_new"],
        ["quite_new"],
    ]


def test_several_views_have_thresholds_and_rates_of_their_own() -> None:
    views = {"thresholds": {**OWN["thresholds"], "forged": 0.876, "real": 0.123}, "calibration": {}}
    rates = {"plain": {"false_positive_rate": 0.011, "true_positive_rate": 0.512}}
    metrics = {**OWN["metrics"], "held_out_thorough": rates}
    card = model_card({**OWN, "metrics": metrics, "thorough": views})
    assert (
        "With `--thorough`, forged from 0.876, real under 0.123. On groups left out of the choice, plain"
        " images: 1.1% of real faces called forged, 51.2% of forged ones found."
    ) in card


def test_frames_and_videos_have_columns_of_their_own() -> None:
    video = {"count": 3, "real": 1, "metrics": {"auc": {"value": 0.75, "low": None, "high": None}}}
    card = model_card(OWN, evaluations={"ff": evaluation(0.85, binary={"celebdf/as-is/video": video})})
    assert "|  | ff | ff, celebdf/as-is/video |" in card
    assert cells(card, "scored (real)") == ["10 (4)", "3 (1)"]
    assert cells(card, "AUC of P(x)") == ["0.850 (0.800-0.900)", "0.750 (---)"]
    assert cells(card, "quite new") == ["0.500 (0.400-0.600)", "-"]


def test_a_runs_own_metrics_are_shown_where_there_are_no_others() -> None:
    card = model_card({"name": "run", "metrics": {"val/auc": 0.875}, "labels": ["face"], "input_size": 64})
    assert cells(card, "`val/auc`") == ["0.8750"]
    assert "model-index" not in matter(card)
    assert "Not calibrated" in card


def test_sources_are_named_with_their_shares_and_a_single_data_set_with_its_folders() -> None:
    shares = {source["name"]: source["share"] for source in OWN["settings"]["data"]["sources"]}
    first = f"`dfdc` {shares['dfdc']:g}, `faceforensics` {shares['faceforensics']:g},"
    assert f"Sources and their shares of a batch: {first}" in model_card(OWN)
    assert "`photographs`" not in model_card(OWN)  # a partner of others has no share
    data = {**OWN["settings"]["data"], "sources": [], "dataset": "folder", "roots": ["a", "b"]}
    card = model_card({**OWN, "settings": {**OWN["settings"], "data": data}})
    assert "**Training.** Data set `folder` at `a`, `b`; batches of 32" in card


def test_a_baseline_is_not_described_as_the_papers_network() -> None:
    settings = {"model": {**OWN["settings"]["model"], "kind": "multicls"}}
    card = model_card({**OWN, "settings": settings})
    assert "Network: `multicls` on the backbone `tf_efficientnet_lite0`." in card
    assert "transformer" not in card


@pytest.mark.parametrize(
    ("licence", "license"),
    [("Apache-2.0", "apache-2.0"), ("CC-BY-NC-4.0", "cc-by-nc-4.0"), ("ask me", "other")],
)
def test_licences_that_hubs_know(licence: str, license: str) -> None:
    card = model_card({**OWN, "licence": licence})
    assert matter(card)["license"] == license
    assert f"**Terms.** {licence[0].upper()}{licence[1:]}." in card


def test_the_front_matter_survives_any_name() -> None:
    name = "a: b #c 'd' \"e\" é"
    assert matter(model_card({**OWN, "name": name}))["model-index"][0]["name"] == name


def test_notes_close_the_card() -> None:
    assert model_card(OWN, notes="**Limits.** None known.\n").endswith("```\n\n**Limits.** None known.\n")
