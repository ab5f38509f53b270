"""Chain: one front end of several."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from temporal.frontends import STFT, Chain, Log, MelSpectrogram, Normalize


def mel():
    return MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40)


class EverySecond(nn.Module):
    """A stage of somebody else's: every second frame, and it waits for one more."""

    reads = gives = "frames"
    hop_length, latency = 2, 1

    def frames(self, samples):
        return samples // 2


def test_it_calls_its_stages_in_turn():
    first, log, normalize = mel(), Log(), Normalize(1.0, 2.0)
    chain = Chain(first, log, normalize)
    wave = torch.randn(2, 3, 4000)
    # the logarithm is taken in the pass of the mel spectrogram, and rounds by itself
    torch.testing.assert_close(chain(wave), normalize(log(first(wave))), rtol=1e-5, atol=1e-5)
    assert list(chain) == [first, log, normalize]
    assert chain[0] is first and chain[-1] is normalize and len(chain) == 3
    assert isinstance(chain[:2], Chain)
    torch.testing.assert_close(chain[:2](wave), log(first(wave)), rtol=1e-5, atol=1e-5)


def test_names():
    chain = Chain(OrderedDict(mel=mel(), log=Log(), normalize=Normalize(0.0, 1.0)))
    assert chain.log is chain[1]
    assert list(chain.state_dict()) == ["normalize.mean", "normalize.std"]


def test_hops_multiply_and_latencies_add_up():
    chain = Chain(mel(), EverySecond(), Log(), EverySecond())
    assert chain.hop_length == 640
    assert chain.latency == 256 + 160 + 320
    assert chain.frames(16000) == 101 // 2 // 2
    assert chain.frames(torch.tensor([[16000, 0]])).tolist() == [[25, 0]]
    assert (chain.reads, chain.gives, chain.sample_rate, chain.pad_mode) == ("samples", "frames", 16000, "constant")
    rest = chain[1:]
    assert (rest.reads, rest.hop_length, rest.latency, rest.sample_rate, rest.pad_mode) == ("frames", 4, 3, None, None)


def test_any_module_can_be_a_stage_of_the_whole():
    chain = Chain(mel(), nn.Dropout(0.5), Log()).eval()
    assert chain(torch.randn(4000)).shape == (40, 26)
    for attribute in ("hop_length", "latency"):
        with pytest.raises(ValueError, match=rf"Chain: stage 1 \(Dropout\) has no \.{attribute}"):
            getattr(chain, attribute)
    with pytest.raises(ValueError, match=r"Chain: stage 1 \(Dropout\) has no \.frames"):
        chain.frames(4000)


def test_a_torchaudio_transform_can_be_a_stage(torchaudio):
    chain = Chain(torchaudio.transforms.MelSpectrogram(16000, n_mels=20), Log())
    assert chain(torch.randn(2, 4000)).shape == (2, 20, 21)


@pytest.mark.parametrize(
    "stages, error, message",
    [
        ((), ValueError, "give at least one front end"),
        ((OrderedDict(),), ValueError, "give at least one front end"),
        ((mel(), torch.log), TypeError, "stage 1 is a builtin_function_or_method, not a module"),
        ((Log(), mel()), ValueError, r"stage 1 \(MelSpectrogram\) reads samples, but stage 0 \(Log\) gives frames"),
        ((mel(), STFT()), ValueError, r"stage 1 \(STFT\) reads samples, but stage 0 \(MelSpectrogram\) gives frames"),
    ],
)
def test_bad_stages(stages, error, message):
    with pytest.raises(error, match=f"Chain: {message}"):
        Chain(*stages)
