"""The service's own description of itself: valid, committed, and true."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from forgerank.serving.service.service_settings import ServiceSettings

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def served(launch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("data")
    with launch(data=data, require_keys=True, queue_jobs=20, photo_bytes=10_000) as live:
        yield live


@pytest.fixture(scope="module")
def specification(served: Any) -> dict[str, Any]:
    app: FastAPI = served.app
    return app.openapi()


def test_it_is_valid(specification: dict[str, Any]) -> None:
    validate(specification)


def test_the_committed_one_is_up_to_date(specification: dict[str, Any]) -> None:
    """To renew it: curl http://127.0.0.1:8000/openapi.json | python -m json.tool > docs/openapi.json"""
    assert specification == json.loads(COMMITTED.read_text(encoding="utf-8"))


def test_every_error_is_problem_details(specification: dict[str, Any]) -> None:
    operations = [at[method] for at in specification["paths"].values() for method in at]
    assert len(operations) == 10
    for operation in operations:
        for status, answer in operation["responses"].items():
            if status >= "400":
                reference = {"$ref": "#/components/schemas/ProblemDetails"}
                assert answer["content"] == {"application/problem+json": {"schema": reference}}


def test_reports_are_described_by_their_own_models(specification: dict[str, Any]) -> None:
    answer = specification["paths"]["/v1/detect"]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/ReportFile")
    assert "forged_probability" in specification["components"]["schemas"]["FaceEntry"]["properties"]


@pytest.fixture(scope="module")
def key(served: Any) -> str:
    made: str = served.service.keys.add("schemathesis")
    return made


schema = schemathesis.openapi.from_dict(json.loads(COMMITTED.read_text(encoding="utf-8")))


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_it_is_true(case: schemathesis.Case, served: Any, key: str) -> None:
    # Any bytes may be sent for a photograph, and most are refused.
    case.call_and_validate(
        base_url=served.url,
        headers={"Authorization": f"Bearer {key}"},
        excluded_checks=[positive_data_acceptance, negative_data_rejection],
    )


def test_every_setting_is_documented() -> None:
    documented = (COMMITTED.parent / "service.md").read_text(encoding="utf-8")
    for name, field in ServiceSettings.model_fields.items():
        default = "" if field.is_required() or field.default is None else f"`{field.default}`"
        assert f"| `{name}` | {default} | {field.description} |\n" in documented
