"""The published recipes against a plain transcription of the published equations, on a seeded batch."""

import math
import re
import warnings

import pytest
import soundfile
import torch
import torch.nn.functional as F

from temporal.datasets import read_audio
from temporal.delays import DelaySchedule
from temporal.training import find_recipe
from temporal.training._optimizer import learning_rate_of, optimizer_of
from temporal.training._step import delay_schedule

INPUTS = 140  # 700 units, five neighbours to a channel


def build(name: str, classes: int, **network):
    from temporal.models import ModelSpec

    recipe = find_recipe(name).override({f"network.{key}": value for key, value in network.items()})
    torch.manual_seed(0)
    labels = tuple(map(str, range(classes)))
    spec = ModelSpec(frontend=None, network=recipe.network, labels=labels, inputs=INPUTS, tail=recipe.tail)
    return recipe, spec.build()


def published_kernel(weight, position, sig, taps):
    """dcls, version gauss: exp(-((k - taps // 2 - P) / (|SIG| + 0.27))^2 / 2), normalised over the taps."""
    k = torch.arange(taps, dtype=weight.dtype)
    g = torch.exp(-0.5 * ((k - taps // 2 - position.unsqueeze(-1)) / (abs(sig) + 0.27)) ** 2)
    return weight.unsqueeze(-1) * g / (g.sum(-1, keepdim=True) + 1e-7)


def published_frames(wave):
    """Power spectra, triangles of height 1 up to 14 kHz, decibels: [..., samples at 8 kHz] to [..., 140, frames]."""
    window = torch.hann_window(256, dtype=wave.dtype)
    spectra = torch.stft(wave, 256, 80, window=window, center=True, pad_mode="reflect", return_complex=True)
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (50, 14000))
    edges = 700 * (10 ** (torch.linspace(low, high, 142, dtype=wave.dtype) / 2595) - 1)
    bins = torch.linspace(0, 4000, 129, dtype=wave.dtype)[:, None]
    rise, fall = (bins - edges[:-2]) / edges.diff()[:-1], (edges[2:] - bins) / edges.diff()[1:]
    bank = torch.minimum(rise, fall).clamp(min=0)
    return 10 * torch.log10((bank.T @ spectra.abs() ** 2).clamp(min=1e-10))


def transcription(model, x, taps, tau, sig, labels, tail):
    """Convolution, batch norm, LIF (hard reset, detached), readout that never fires, sum over steps of the softmax.

    Weights and positions are leaves of their own, so that gradients can be compared. The recording's end is padded at
    once, by the steps that the published layers add one after the other.
    """
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron", reason="spikingjelly is not installed")
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate", reason="spikingjelly is not installed")
    delayed = [m for m in model.network if hasattr(m, "delay")]
    norms = [m for m in model.network if hasattr(m, "running_mean")]
    weights = [m.weight.detach().clone().requires_grad_() for m in delayed]
    positions = [(taps // 2 - m.delay.detach()).requires_grad_() for m in delayed]
    x = F.pad(x, (0, 0, 0, 0, 0, tail))
    for number, (w, p) in enumerate(zip(weights, positions, strict=True)):
        padded = F.pad(x.permute(1, 2, 0), (taps - 1, 0))
        current = F.conv1d(padded, published_kernel(w, p, sig, taps)).permute(2, 0, 1)
        last = number == len(weights) - 1
        if not last:
            norm = norms[number]
            mean, var = current.mean((0, 1)), current.var((0, 1), unbiased=False)
            current = (current - mean) / torch.sqrt(var + 1e-5) * norm.weight.detach() + norm.bias.detach()
        lif = neuron.LIFNode(
            tau=tau, decay_input=False, v_threshold=1e9 if last else 1.0, v_reset=0.0, detach_reset=True,
            surrogate_function=surrogate.ATan(5.0), step_mode="m", store_v_seq=True,
        )  # fmt: skip
        spikes = lif(current)
        x = lif.v_seq if last else spikes
    loss = F.cross_entropy(x.softmax(2).sum(0), labels)
    loss.backward()
    return loss.detach(), [w.grad for w in weights], [-p.grad for p in positions]


@pytest.mark.parametrize(
    "name, classes, taps, tau, parameters",
    [
        ("shd-published", 20, 25, 1.005, 214_016),
        ("ssc-published", 35, 31, 1.5, 1_230_848),
        ("gsc-published", 35, 31, 1.5, 1_230_848),
    ],
)
def test_fingerprint(name, classes, taps, tau, parameters):
    """Loss and gradients of a first step, without dropout, in float64; the whole network for its size, less for speed."""
    _, full = build(name, classes)
    assert sum(p.numel() for p in full.parameters() if p.requires_grad) == parameters
    recipe, model = build(name, classes, hidden=24, dropout=0.0)
    model.double().train()
    torch.manual_seed(1)
    if name == "gsc-published":
        x = published_frames(torch.randn(3, 4000, dtype=torch.float64)).permute(2, 0, 1)
    else:
        x = torch.poisson(torch.full((40, 3, INPUTS), 0.2, dtype=torch.float64))
    labels = torch.tensor([1, 5, 9])
    schedule = delay_schedule(recipe, model)
    schedule.apply(model, 0.0)
    loss = F.cross_entropy(model(x), labels)
    loss.backward()
    theirs, weights, delays = transcription(model, x, taps, tau, taps // 2, labels, recipe.tail)
    torch.testing.assert_close(loss.detach(), theirs, rtol=1e-6, atol=1e-6)
    layers = [m for m in model.network if hasattr(m, "delay")]
    for layer, weight, delay in zip(layers, weights, delays, strict=True):
        assert weight.abs().max() > 0
        # dcls adds 1e-7 to the sum it divides by; a tenth of the step's largest gradient is far above 1e-5 of it
        torch.testing.assert_close(layer.weight.grad, weight, rtol=1e-5, atol=1e-5 * float(weight.abs().max()))
        torch.testing.assert_close(layer.delay.grad, delay, rtol=1e-5, atol=1e-5 * float(delay.abs().max()))


@pytest.mark.parametrize("name", ["ssc-published", "gsc-published"])
def test_two_synapses_a_pair_are_the_larger_published_network(name):
    _, model = build(name, 35, synapses=2)
    assert sum(p.numel() for p in model.parameters()) == 2_458_624


def test_binning_is_the_published_one():
    binning = find_recipe("shd-published").spikes.binning()
    assert (binning.dt, binning.channels(700)) == (0.01, INPUTS)


def front_end():
    with pytest.warns(UserWarning, match="fmax=14000 Hz is above the Nyquist frequency of sample_rate=8000 Hz"):
        return find_recipe("gsc-published").frontend.build()


def test_the_front_end_is_the_published_one():
    wave = torch.randn(2, 8000, dtype=torch.float64) * torch.tensor([[1e-3], [0.3]])
    ours = front_end()(wave)
    assert ours.shape == (2, 140, 101)
    torch.testing.assert_close(ours, published_frames(wave), rtol=0, atol=1e-9)  # dB


def test_the_front_end_is_that_of_torchaudios_classes(torchaudio):
    wave, transforms = torch.randn(2, 8000, dtype=torch.float64), torchaudio.transforms
    torch.set_default_dtype(torch.float64)  # in which torchaudio builds
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the empty bands
            mel = transforms.MelScale(n_mels=140, sample_rate=8000, f_min=50, f_max=14000, n_stft=129)
        spectrogram, decibels = transforms.Spectrogram(256, hop_length=80, power=2), transforms.AmplitudeToDB()
        theirs = decibels(mel(spectrogram(wave)))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(front_end()(wave), theirs, rtol=0, atol=1e-9)


def test_real_words_resampled_by_soxr_are_near_torchaudios(torchaudio, speech_commands):
    """Below 3.4 kHz, on average: 0.04 to 0.1 dB apart. torchaudio's filter falls early, and lets the band above alias."""
    with pytest.warns(UserWarning, match="always 0"):
        published = find_recipe("gsc-published").frontend.build()
    heard = (published[0].frequencies < 3400) & (published[0].filter_bank > 0).any(1)
    to_half = torchaudio.transforms.Resample(16000, 8000)
    for path in sorted(speech_commands.glob("seven/*.wav"))[:3]:
        samples, _ = soundfile.read(path, dtype="float32")
        theirs = published_frames(to_half(F.pad(torch.from_numpy(samples), (0, 16000 - len(samples)))))[heard]
        wave = read_audio(path, 8000).wave
        ours = published(F.pad(wave, (0, 8000 - len(wave))))[heard]
        assert (ours - theirs).abs().mean() < 0.2


def test_the_empty_bands_are_named():
    """53 of the 140 published bands hold nothing; up to 4 kHz it would be 7."""
    with pytest.warns(UserWarning, match="53 of n_mels=140 bands are always 0") as caught:
        front = find_recipe("gsc-published").frontend.build()
    named = re.search(r"into them: ([\d, -]+)\.", str(caught[0].message))[1]
    spans = [part.split("-") for part in named.split(", ")]
    empty = [band for span in spans for band in range(int(span[0]), int(span[-1]) + 1)]
    silent = front(torch.randn(8000)).amax(-1) == -100.0
    assert silent.nonzero().flatten().tolist() == empty and len(empty) == 53
    with pytest.warns(UserWarning, match="^MelSpectrogram: 7 of n_mels=140 bands are always 0"):
        find_recipe("gsc-published").override({"frontend.fmax": 4000.0}).frontend.build()


def test_sigma_narrows_as_published():
    """SIG is multiplied by the same number after each of 37 epochs, from 12 to 0.23; dcls adds 0.27."""
    recipe, model = build("shd-published", 20, hidden=8)
    schedule = delay_schedule(recipe, model)
    sig, alpha = 12.0, (0.23 / 12) ** (1 / 37)
    for epoch in range(150):
        assert schedule.sigma(epoch / 150, 24) == pytest.approx(sig + 0.27, rel=1e-6)
        if epoch < 37:
            sig *= alpha
    assert not schedule.rounded(149 / 150)


def test_rates_are_the_published_ones():
    """One-cycle from 2e-4 over 5e-3 for weights, a cosine from 0.1 to 0 for positions, changed once an epoch."""
    recipe, model = build("shd-published", 20, hidden=8)
    optimizer = optimizer_of(model, recipe)
    assert type(optimizer) is torch.optim.Adam
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-5, 0.0, 0.0]
    rates = learning_rate_of(optimizer, recipe, steps=3)
    plain = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-3)
    theirs = torch.optim.lr_scheduler.OneCycleLR(plain, max_lr=5e-3, total_steps=150)
    for epoch in range(150):
        for _ in range(3):
            weights, norms, delays = rates.get_last_lr()
            assert weights == norms == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
            assert delays == pytest.approx(0.1 * (1 + math.cos(math.pi * epoch / 150)) / 2, abs=1e-12)
            optimizer.step()
            rates.step()
        if epoch < 149:
            plain.step()
            theirs.step()


@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize("kind", ["one-cycle", "cosine", "constant"])
def test_every_schedule_stays_in_range(kind, every):
    recipe = find_recipe("shd").override({"optimizer.schedule": kind, "optimizer.every": every, "epochs": 5})
    _, model = build("shd-published", 4, hidden=4)
    optimizer = optimizer_of(model, recipe)
    rates = learning_rate_of(optimizer, recipe, steps=4)
    seen = []
    for _ in range(20):
        seen.append(rates.get_last_lr()[0] / recipe.optimizer.lr)
        optimizer.step()
        rates.step()
    assert all(0 <= factor <= 1 for factor in seen) and max(seen) > 0.8
    assert kind == "constant" or seen[-1] < 0.5
    if every == "epoch":
        assert all(seen[i] == seen[i - i % 4] for i in range(20))


def test_a_floor_below_the_end():
    with pytest.raises(ValueError, match=r"floor=0.5 is not in \[0, end=0.5\)"):
        DelaySchedule(end=0.5, floor=0.5)
