"""`.frames(samples)` is what the layer gives, for ints and for tensors."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.frontends import STFT


@settings(derandomize=True, deadline=None, max_examples=300)
@given(n_fft=st.integers(1, 40), hop_length=st.integers(1, 50), center=st.booleans(), samples=st.integers(0, 200))
def test_frames_is_exact(n_fft, hop_length, center, samples):
    stft = STFT(n_fft, hop_length=hop_length, center=center)
    count = stft.frames(samples)
    for dtype in (torch.int64, torch.int32, torch.uint8):
        assert stft.frames(torch.tensor([samples], dtype=dtype)).tolist() == [count]
    if center or samples >= n_fft:
        assert stft(torch.zeros(samples)).shape[-1] == count
    else:
        assert count == 0
