import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import temporal
from temporal.models import DelayedLIF, Mel, ModelSpec, deploy, read_spec, save

SPEC = ModelSpec(
    frontend=Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=12),
    network=DelayedLIF(hidden=10, layers=2, max_delay=5),
    labels=("no", "yes", "zoom in"),
    tail=4,
)


@pytest.fixture
def model():
    model = SPEC.build()
    model.frontend[-1].fit(torch.randn(3, 12, 50))
    for _ in range(3):  # running averages that are not those of a fresh layer
        model(torch.randn(4, 3000) * 0.3)
    return model.eval()


@pytest.fixture
def file(model, tmp_path):
    save(model, SPEC, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_model_comes_back_whole(model, file):
    wave, lengths = torch.randn(2, 4000) * 0.3, torch.tensor([4000, 2500])
    for source in (file, file.parent):
        loaded = temporal.load(source)
        assert torch.equal(loaded(wave, lengths), model(wave, lengths))
        assert loaded.labels == model.labels and loaded.sample_rate == 8000 and loaded.tail == 4
    assert read_spec(file) == SPEC
    assert [path.name for path in file.parent.iterdir()] == ["model.safetensors"]  # no temporary file is left


def test_deployed_is_the_network_with_whole_delays(model):
    rounded = SPEC.build().eval()
    rounded.load_state_dict(model.state_dict())
    for layer in rounded.modules():
        if isinstance(layer, temporal.delays.DelayedLinear):
            layer.round_()
    deployed = deploy(model)
    wave = torch.randn(3, 4000).double() * 0.3
    torch.testing.assert_close(deployed(wave), rounded.double()(wave), rtol=0, atol=1e-9)
    assert not any(isinstance(layer, temporal.BatchNorm) for layer in deployed.modules())
    assert model.network[0].sigma > 0, "the model itself must stay as it is"


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code from the file was executed",))


def test_no_code_is_executed(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        temporal.load(tmp_path)


def test_a_cut_file_is_named(file):
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors: not a readable safetensors file, perhaps truncated"):
        temporal.load(file)


def test_missing_things_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such run folder or file"):
        temporal.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="first epoch"):
        temporal.load(tmp_path)


def rewrite(file, change):
    about = {"format": 1, "temporal": "0", "model": SPEC.to_dict()}
    tensors = load_file(file)
    change(about, tensors)
    save_file(tensors, file, metadata={"temporal": json.dumps(about)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about, t: about.update(format=9), "format 9"),
        (lambda about, t: about["model"]["frontend"].update(kind="mell"), "did you mean 'mel'"),
        (lambda about, t: about["model"]["network"].update(hiden=3), "did you mean 'hidden'"),
        (lambda about, t: about["model"].pop("labels"), "labels"),
        (lambda about, t: about["model"]["network"].update(hidden=11), "weights do not fit"),
        (lambda about, t: t.pop("network.0.weight"), "missing network.0.weight"),
        (lambda about, t: t.update(extra=torch.zeros(1)), "not of this network extra"),
        (lambda about, t: about["model"]["network"].update(kind="mine.Net"), r"load\(run, network=...\)"),
    ],
)
def test_a_file_that_does_not_fit_says_why(file, change, message):
    rewrite(file, change)
    with pytest.raises(ValueError, match=message):
        temporal.load(file)


def test_somebody_elses_safetensors(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="not one that temporal wrote"):
        temporal.load(tmp_path / "w.safetensors")


def test_a_network_of_ones_own_is_handed_in(tmp_path):
    class Net:
        def build(self, inputs, classes):
            return torch.nn.Linear(inputs, classes)

    spec = ModelSpec(frontend=Mel(n_mels=8), network=Net(), labels=("a", "b"))
    model = spec.build()
    save(model, spec, tmp_path / "model.safetensors")
    loaded = temporal.load(tmp_path, network=torch.nn.Linear(8, 2))
    assert torch.equal(loaded.network.weight, model.network.weight)
