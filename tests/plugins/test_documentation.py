"""docs/plugins.md tells every hook with its signature, and the example uses each of them."""

from __future__ import annotations

import inspect
import re
import sys

import pytest

from fhir_server.plugins import HOOKS, Plugin
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_the_list_of_hooks_is_complete() -> None:
    assert list(HOOKS) == [name for name, member in vars(Plugin).items() if inspect.isfunction(member)]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_documented_with_its_signature_in_both_languages(hook: str) -> None:
    parameters = ", ".join(list(inspect.signature(getattr(Plugin, hook)).parameters))
    assert len(re.findall(rf"^### `{hook}\({parameters}\)`", PAGE, re.M)) == 1
    assert len(re.findall(rf"^\| `{hook}` \|.*[\u4e00-\u9fff]", PAGE, re.M)) == 1
    assert (getattr(Plugin, hook).__doc__ or "").strip()


def test_no_hook_is_documented_that_is_not_there() -> None:
    assert re.findall(r"^### `(\w+)\(", PAGE, re.M) == list(HOOKS)


def test_the_example_uses_every_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "plugin"))
    from fhir_example_plugin import Example

    from fhir_server.plugins.finding import used

    assert used(Example()) == HOOKS
    for name in [name for name in sys.modules if name.startswith("fhir_example_plugin")]:
        monkeypatch.delitem(sys.modules, name)
