"""SpecAugment: what it covers, how often, and what it leaves alone."""

import pytest
import torch

from temporal.frontends import SpecAugment


def seeded(seed=0, **options):
    return SpecAugment(generator=torch.Generator().manual_seed(seed), **options)


def test_masks_are_bands_and_spans_of_the_widths_given():
    frames = torch.ones(400, 20, 50)
    bands = seeded(freq_masks=1, freq_width=6, time_masks=0)(frames)
    assert torch.equal(bands, bands[..., :1].expand_as(bands))
    widths = (bands[..., 0] == 0).sum(1)
    assert set(widths.tolist()) == set(range(7))  # uniform in 0 .. 6: each about 57 times
    assert min(widths.bincount()) >= 30
    spans = seeded(freq_masks=0, time_masks=1, time_width=9)(frames)
    covered = spans[:, 0] == 0
    assert covered.sum(1).max() == 9 and torch.equal(spans, spans[:, :1].expand_as(spans))
    starts = (covered.int().diff(dim=1) != 0).sum(1)
    assert starts.max() <= 2  # one span each
    assert covered[:, 0].any() and covered[:, -1].any()


def test_reproducible_independent_and_of_the_probability():
    frames = torch.randn(500, 12, 30)
    out = seeded(3, p=0.5, freq_masks=1, time_masks=4)(frames)
    assert torch.equal(out, seeded(3, p=0.5, freq_masks=1, time_masks=4)(frames))
    changed = (out != frames).flatten(1).any(1).float().mean()
    assert 0.4 < changed < 0.55  # a few masks have no width
    assert torch.equal(seeded(p=0.0)(frames), frames)
    layer = seeded()
    assert not torch.equal(layer(frames), layer(frames))


def test_lengths_and_fill():
    frames, lengths = torch.rand(60, 8, 40) + 1, torch.randint(0, 41, (60,))
    out = seeded(time_masks=3, freq_masks=1, fill="mean", freq_width=3)(frames, lengths=lengths)
    inside = torch.arange(40) < lengths[:, None, None]
    assert torch.equal(torch.where(inside, 0, out), torch.where(inside, 0, frames))
    for i in (i for i in range(60) if lengths[i]):
        new = out[i][out[i] != frames[i]]
        torch.testing.assert_close(new, frames[i, :, : lengths[i]].mean().expand_as(new))
    share = seeded(freq_masks=0, time_masks=1, time_share=0.1)(torch.ones(200, 2, 50))
    assert (share[:, 0] == 0).sum(1).max() == 5


def test_identity_and_stream_in_evaluation():
    layer, frames = SpecAugment(), torch.randn(2, 3, 4, 5)
    assert layer(frames).shape == frames.shape
    with pytest.raises(ValueError, match=r"SpecAugment: in training it masks whole utterances; call \.eval\(\)"):
        layer.stream(frames)
    assert torch.equal(layer.eval()(frames), frames) and torch.equal(layer.stream(frames)[0], frames)


def test_compiles_and_passes_gradients_on():
    frames = torch.ones(2, 8, 20, requires_grad=True)
    out = torch.compile(SpecAugment(), fullgraph=True, backend="aot_eager")(frames)
    out.sum().backward()
    assert torch.equal(frames.grad, (out != 0).float())
    assert SpecAugment()(torch.zeros(0, 8, 20)).shape == (0, 8, 20)
    assert SpecAugment()(torch.zeros(2, 8, 0)).shape == (2, 8, 0)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"freq_masks": -1}, ValueError, "freq_masks=-1 is negative"),
        ({"time_width": 2.5}, TypeError, "time_width=2.5 is a float"),
        ({"p": 1.5}, ValueError, "p=1.5 must lie between 0 and 1"),
        ({"fill": "zero"}, ValueError, "fill='zero' is unknown"),
    ],
)
def test_bad_values(options, error, message):
    with pytest.raises(error, match=f"SpecAugment: {message}"):
        SpecAugment(**options)
