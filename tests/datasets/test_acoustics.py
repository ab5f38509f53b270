import numpy as np
import pytest
import torch

from temporal.datasets import Equalize, Reverb, generators_for


@pytest.mark.parametrize(("rate", "points"), [(8000, 5), (16000, 2), (22050, 9)])
def test_another_microphone_changes_levels_by_a_curve_over_mel(rate, points):
    """A click through the filter is its response: the drawn level at each point, and lines over mel between them."""
    click = torch.zeros(3, rate // 2)
    click[:, rate // 4] = 1
    draws = torch.stack([torch.rand(points, generator=g) * 2 - 1 for g in generators_for(1, 2, range(3))])
    heard = Equalize(9.0, rate, points)(click, torch.full((3,), rate // 2), generators_for(1, 2, range(3)))
    level = 20 * torch.fft.rfft(heard.double()).abs().log10()
    mel = 2595 * (1 + torch.fft.rfftfreq(rate // 2, 1 / rate) / 700).log10()
    at = torch.linspace(0, float(mel[-1]), points)
    for b in range(3):
        expected = torch.from_numpy(np.interp(mel, at, 9 * draws[b]))
        # 25 ms resolve some 80 Hz: sharp bends at low frequencies are rounded off
        assert (level[b] - expected)[mel > 300].abs().max() < 0.75
    assert torch.equal(heard.argmax(1), click.argmax(1)), "no delay"


def test_what_a_microphone_does_to_a_recording_is_its_own_matter():
    wave = torch.randn(3, 4000)
    lengths = torch.tensor([4000, 3000, 1])
    wave[1, 3000:] = 0
    wave[2, 1:] = 0
    heard = Equalize(12.0, 8000)(wave, lengths, generators_for(0, 5, [4, 9, 2]))
    assert heard[1, 3000:].abs().max() == 0 and heard[2, 1:].abs().max() == 0
    alone = Equalize(12.0, 8000)(wave[1:2, :3000], lengths[1:2], generators_for(0, 5, [9]))
    torch.testing.assert_close(alone[0], heard[1, :3000], rtol=1e-5, atol=1e-5)
    assert Equalize(0, 8000)(wave, lengths, generators_for(0, 5, [4, 9, 2])) is wave
    doubles = Equalize(12.0, 8000)(wave.double(), lengths, generators_for(0, 5, [4, 9, 2]))
    torch.testing.assert_close(doubles.float(), heard, rtol=1e-4, atol=1e-4)
    assert Equalize(12.0, 8000)(wave[:0], lengths[:0], []).shape == (0, 4000)


def test_microphones_that_cannot_be():
    for bad, name in (((-1, 8000), "decibels"), ((float("nan"), 8000), "decibels"), ((3, 0), "sample_rate")):
        with pytest.raises(ValueError, match=f"Equalize: {name}="):
            Equalize(*bad)
    with pytest.raises(ValueError, match="points=1"):
        Equalize(3, 8000, 1)
    with pytest.raises(ValueError, match="one each"):
        Equalize(3, 8000)(torch.rand(2, 300), torch.tensor([300, 300]), generators_for(0, 0, [1]))


def test_a_room_dies_away_at_its_own_rate():
    """A click: itself, then noise whose energy and slope are those that were drawn."""
    rate, count = 16000, 6
    click = torch.zeros(count, 3 * rate, dtype=torch.float64)
    click[:, 100] = 1
    heard, lengths = Reverb(0.9, rate)(click, torch.full((count,), 3 * rate), generators_for(1, 2, range(count)))
    draws = torch.stack([torch.rand(3, generator=g) for g in generators_for(1, 2, range(count))])
    assert heard.shape[1] == lengths.max()
    for b in range(count):
        time, ratio = 0.1 + 0.8 * float(draws[b, 1]), -5 + 20 * float(draws[b, 2])
        assert int(lengths[b]) == 3 * rate + int(0.4 * np.float32(time) * rate)
        room = heard[b, 101 : 101 + int(0.9 * rate)]
        assert heard[b, :100].abs().max() < 1e-12 and abs(float(heard[b, 100]) - 1) < 1e-12
        assert 10 * np.log10(float(room.square().sum())) == pytest.approx(-ratio, abs=0.01)
        early, late = (room[int(t * rate) :][: rate // 50].square().mean() for t in (0, time / 2))
        assert 10 * float((early / late).log10()) == pytest.approx(30, abs=3)  # half of the time: 30 of 60 dB


def test_what_a_room_does_to_a_recording_is_its_own_matter():
    wave, lengths = torch.randn(3, 4000), torch.tensor([4000, 3000, 1])
    wave[1, 3000:] = 0
    wave[2, 1:] = 0
    heard, new = Reverb(0.5, 8000)(wave, lengths, generators_for(0, 5, [4, 9, 2]))
    for b in range(3):
        assert heard[b, new[b] :].abs().sum() == 0
    alone, longer = Reverb(0.5, 8000)(wave[1:2, :3000], lengths[1:2], generators_for(0, 5, [9]))
    assert int(longer) == int(new[1])
    torch.testing.assert_close(alone[0], heard[1, : int(longer)], rtol=1e-4, atol=1e-4)
    some, same = Reverb(0.5, 8000, share=0.5)(
        wave.repeat(100, 1), lengths.repeat(100), generators_for(0, 5, range(300))
    )
    dry = same == lengths.repeat(100)
    assert 110 < int(dry.sum()) < 190
    torch.testing.assert_close(some[dry][:, :4000], wave.repeat(100, 1)[dry], rtol=1e-5, atol=1e-5)


def test_no_room_is_the_recording_itself():
    wave, lengths = torch.randn(2, 400), torch.tensor([400, 400])
    for room in (Reverb(0, 8000), Reverb(0.5, 8000, share=0)):
        heard, same = room(wave, lengths, generators_for(0, 0, range(2)))
        assert heard is wave and same is lengths
    assert Reverb(0.5, 8000)(wave[:0], lengths[:0], [])[0].shape == (0, 400)


def test_rooms_that_cannot_be():
    for bad, name in (((-1, 8000), "seconds"), ((0.05, 8000), "seconds"), ((0.5, -1), "sample_rate")):
        with pytest.raises(ValueError, match=f"Reverb: {name}="):
            Reverb(*bad)
    with pytest.raises(ValueError, match="share=2"):
        Reverb(0.5, 8000, 2)
    with pytest.raises(ValueError, match="one each"):
        Reverb(0.5, 8000)(torch.rand(2, 300), torch.tensor([300, 300]), generators_for(0, 0, [1]))
