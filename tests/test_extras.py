import pytest

from forgerank import extras
from forgerank.extras import MissingExtraError, require


def test_an_extra_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "here", ("json", "JSON"))
    require("here")


def test_an_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "gone", ("no_such_module", "Nothing"))
    with pytest.raises(MissingExtraError) as caught:
        require("gone")
    assert str(caught.value) == 'this needs Nothing: pip install "forgerank[gone]"'


def test_an_extra_that_is_broken_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError(f"a dependency of {name}", name="dependency")

    monkeypatch.setattr(extras, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="a dependency of torch"):
        require("train")
