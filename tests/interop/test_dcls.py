"""What was trained with dcls gives the same numbers here."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from temporal.interop import from_dcls, from_snn_delays
from temporal.layers import BatchNorm
from temporal.neurons import LI, LIF, ParametricLIF

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    dcls = pytest.importorskip("DCLS.construct.modules", reason="dcls is not installed")


def dcls_layer(inputs, outputs, taps, version, synapses=1, sigma=3.0, bias=False):
    layer = dcls.Dcls1d(
        inputs, outputs, kernel_count=synapses, dilated_kernel_size=taps, version=version, bias=bias
    ).double()
    with torch.no_grad():
        layer.P.uniform_(-taps // 2 + 1, taps // 2 - 1)
        if layer.SIG is not None:
            layer.SIG.fill_(sigma)
    return layer


def applied(layer, x, taps):
    """dcls's order of axes, and zeros before the first step."""
    return layer(F.pad(x.permute(1, 2, 0), (taps - 1, 0))).permute(2, 0, 1)


@pytest.mark.parametrize("as_state", [False, True], ids=["module", "state"])
@pytest.mark.parametrize("taps", [9, 10, 25])
@pytest.mark.parametrize("version, sigma", [("gauss", 3.0), ("gauss", 0.23), ("max", 0.0), ("max", 2.5), ("v1", 0.0)])
@pytest.mark.parametrize("synapses", [1, 3])
def test_equals_dcls(version, sigma, synapses, taps, as_state):
    torch.manual_seed(taps)
    theirs = dcls_layer(4, 5, taps, version, synapses, sigma, bias=synapses == 3)
    given = {"taps": taps, "version": version} if as_state else {}
    ours = from_dcls(theirs.state_dict() if as_state else theirs, **given)
    x = torch.randn(40, 3, 4, dtype=torch.float64)
    # dcls adds 1e-7 to the sum by which it divides, which is at least 0.3.
    torch.testing.assert_close(ours(x)[0], applied(theirs, x, taps), rtol=2e-6, atol=2e-6)


def test_where_dcls_is_wrong_the_synapse_stays_alive():
    """An even number of taps lets a position reach beyond them: dcls's synapse vanishes there, here it acts at once."""
    theirs = dcls_layer(1, 1, 8, "max", sigma=0.0)
    with torch.no_grad():
        theirs.P.fill_(4.0), theirs.weight.fill_(1.0)
    x = torch.randn(20, 1, 1, dtype=torch.float64)
    assert applied(theirs, x, 8).abs().max() == 0
    ours = from_dcls(theirs).round_()
    torch.testing.assert_close(ours(x)[0], x)


def network_of_snn_delays(parametric=False, norm=True):
    """The modules in the order in which that repository numbers them."""
    from spikingjelly.activation_based import layer, neuron

    taps, modules = 9, []
    for inputs, outputs in ((6, 8), (8, 8)):
        modules.append(dcls_layer(inputs, outputs, taps, "gauss", sigma=0.23))
        modules[-1].weight.data *= 1 if norm else 5  # without one they must fire all the same
        if norm:
            modules.append(layer.BatchNorm1d(outputs, step_mode="m"))
            modules[-1].running_mean.uniform_(-0.1, 0.1), modules[-1].running_var.uniform_(0.02, 0.05)
        kind = neuron.ParametricLIFNode if parametric else neuron.LIFNode
        tau = {"init_tau": 1.7} if parametric else {"tau": 1.7}
        modules.append(kind(**tau, v_threshold=1.0, detach_reset=True, step_mode="m", decay_input=False))
        modules.append(layer.Dropout(0.4, step_mode="m"))
    modules.append(dcls_layer(8, 3, taps, "gauss", sigma=0.23))
    tau = {"init_tau": 1.7} if parametric else {"tau": 1.7}
    kind = neuron.ParametricLIFNode if parametric else neuron.LIFNode
    modules.append(kind(**tau, v_threshold=1e9, detach_reset=True, step_mode="m", decay_input=False, store_v_seq=True))
    outer = torch.nn.Module()
    outer.model = torch.nn.Sequential(*modules)
    return outer.double().eval(), taps


def run_theirs(network, x, taps):
    """Left padding only, as here; their right padding lets the sequence grow."""
    for module in network.model:
        if isinstance(module, dcls.Dcls1d):
            x = applied(module, x, taps)
        elif "BatchNorm" in type(module).__name__:
            x = module(x.unsqueeze(3)).squeeze(3)
        else:
            x = module(x)
    return network.model[-1].v_seq


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "plain"])
@pytest.mark.parametrize("parametric", [False, True], ids=["lif", "plif"])
def test_a_checkpoint_of_snn_delays(tmp_path, parametric, norm):
    pytest.importorskip("spikingjelly")
    torch.manual_seed(5)
    theirs, taps = network_of_snn_delays(parametric, norm)
    torch.save(theirs.state_dict(), tmp_path / "best.pt")
    ours = from_snn_delays(tmp_path / "best.pt", taps=taps, tau=2.0 if parametric else 1.7, dropout=0.4).eval()
    kinds = [type(layer) for layer in ours]
    assert kinds.count(ParametricLIF if parametric else LIF) == 2 and kinds[-1] is LI
    assert (BatchNorm in kinds) == norm
    x = (torch.rand(60, 4, 6) < 0.3).double()
    with torch.no_grad():
        voltages, reference = ours(x)[0], run_theirs(theirs, x, taps)
    assert reference.abs().max() > 0.5, "a silent network would equal anything"
    torch.testing.assert_close(voltages, reference, rtol=5e-6, atol=5e-6)  # dcls's 1e-7, and what follows from it


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"P": None}, KeyError, "has no P"),
        ({"P": torch.zeros(1, 2, 2, 1)}, ValueError, r"P has shape \[1, 2, 2, 1\]"),
        ({"P": torch.full((1, 2, 3, 1), 9.0)}, ValueError, r"P reaches 9; 9 taps allow -4 .. 4"),
        ({"P": torch.full((1, 2, 3, 1), torch.nan)}, ValueError, "P holds NaN"),
        ({"SIG": torch.arange(6.0).view(1, 2, 3, 1)}, ValueError, "SIG runs from 0 to 5"),
        ({"weight": torch.zeros(2, 3)}, ValueError, r"weight \[2, 3\]"),
    ],
)
def test_refuses_an_odd_state_dict(change, error, message):
    state = {"weight": torch.ones(2, 3, 1), "P": torch.zeros(1, 2, 3, 1), "SIG": torch.ones(1, 2, 3, 1)} | change
    with pytest.raises(error, match=message):
        from_dcls({name: value for name, value in state.items() if value is not None}, taps=9)


def test_refuses_what_is_no_such_layer_or_file(tmp_path):
    state = {"weight": torch.ones(2, 3, 1), "P": torch.zeros(1, 2, 3, 1)}
    with pytest.raises(ValueError, match="give taps="):
        from_dcls(state)
    with pytest.raises(ValueError, match="version='v0' is not one of"):
        from_dcls(state, taps=9, version="v0")
    with pytest.raises(TypeError, match="got list"):
        from_dcls([1])
    with pytest.raises(TypeError, match="is it a Dcls1d"):
        from_dcls(torch.nn.Linear(2, 2))
    with pytest.raises(FileNotFoundError, match="no such file"):
        from_snn_delays(tmp_path / "none.pt", taps=9)
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match="not a file of tensors"):
        from_snn_delays(tmp_path / "cut.pt", taps=9)
    with pytest.raises(ValueError, match=r"names like 'model\.0\.P' are right"):
        from_snn_delays({"layers.0.P": torch.zeros(1)}, taps=9)
    two = {f"model.{n}.{k}": v for n in (0, 3) for k, v in state.items()}
    with pytest.raises(ValueError, match=r"model\.3 has 3 inputs, the layer before 2"):
        from_snn_delays(two, taps=9)
