"""Who decides which backend runs, and what happens when it cannot."""

import pytest
import torch

from temporal.kernels import use
from temporal.kernels._dispatch import Backends
from temporal.neurons import functional


def backends() -> Backends:
    def needs_float32(x):
        return None if x == "float32" else "needs float32"

    return Backends("scan", "importlib", util=needs_float32, machinery=lambda x: None)


@pytest.fixture(autouse=True)
def known_names(monkeypatch):
    """Two modules that exist stand for backends."""
    monkeypatch.delenv("TEMPORAL_KERNELS", raising=False)
    monkeypatch.setattr("temporal.kernels._dispatch._KNOWN", ("auto", "reference", "util", "machinery"))


def chosen(request="float32") -> str:
    return backends().choose(request).__name__.rpartition(".")[2]


def test_auto_takes_the_first_that_can():
    assert chosen("float32") == "util"
    assert chosen("float64") == "machinery"


def test_a_choice_is_obeyed_or_refused_with_the_name_of_one_that_can():
    with use("machinery"):
        assert chosen("float32") == "machinery"
    with use("util"), pytest.raises(NotImplementedError, match="scan: backend 'util' needs float32; use: machinery"):
        chosen("float64")
    with (
        use("reference"),
        pytest.raises(NotImplementedError, match="does not have this operator; use: util, machinery"),
    ):
        chosen("float32")


def test_contexts_nest_and_close_in_any_order():
    outer, inner = use("machinery"), use("util")
    outer.__enter__()
    inner.__enter__()
    assert chosen() == "util"
    outer.__exit__()
    assert chosen() == "util"
    inner.__exit__()
    with use("machinery"):
        with use("auto"):
            assert chosen() == "util"
        assert chosen() == "machinery"
    assert chosen() == "util"


def test_environment_variable_rules_outside_contexts(monkeypatch):
    monkeypatch.setenv("TEMPORAL_KERNELS", "machinery")
    assert chosen() == "machinery"
    with use("util"):
        assert chosen() == "util"
    monkeypatch.setenv("TEMPORAL_KERNELS", "")
    assert chosen() == "util"


def test_unknown_backend(monkeypatch):
    with pytest.raises(ValueError, match=r"temporal\.kernels\.use: unknown backend 'gpu'; known: auto, "):
        use("gpu")
    monkeypatch.setenv("TEMPORAL_KERNELS", "gpu")
    with pytest.raises(ValueError, match="TEMPORAL_KERNELS: unknown backend 'gpu'"):
        functional.lif(torch.zeros(1, 1, 1), decay=0.5)
