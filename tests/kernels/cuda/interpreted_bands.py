"""The Triton kernel of bands under Triton's interpreter, against the reference. Run by test_interpreter.py."""

import pytest
import torch

from temporal.kernels.bands import reference, spans

pytest.importorskip("triton", reason="the interpreter of Triton, which is not installed")
from temporal.kernels.bands import cuda


@pytest.mark.parametrize(("power", "log"), [(2.0, None), (2.0, 1e-6), (1.0, None), (1.0, 1e-3)])
@pytest.mark.parametrize(("shape", "bands"), [((2, 3, 37, 33), 7), ((1, 21), 3), ((2, 64, 40), 1), ((0, 5, 9), 4)])
def test_bands(shape, bands, power, log):
    spectra = torch.randn(shape, dtype=torch.complex64)
    if spectra.numel():
        spectra.view(-1)[0] = 0  # whose magnitude has gradient 0
    bank = torch.rand(bands, shape[-1]) * (torch.rand(bands, shape[-1]) > 0.6)
    bank[-1] = 0
    arguments = (bank, spans(bank), power, log)
    ours, true = cuda.bands(spectra, *arguments), reference.bands(spectra, *arguments)
    torch.testing.assert_close(ours, true, rtol=2e-6, atol=1e-6)  # float32 sums of at most 40 terms, in another order
    grad = torch.randn(true.shape)
    ours, true = (side.bands_backward(grad, spectra, *arguments) for side in (cuda, reference))
    torch.testing.assert_close(ours, true, rtol=1e-5, atol=1e-5)


def test_nan_reaches_the_bands_of_its_frame_only():
    spectra = torch.randn(40, 33, dtype=torch.complex64)
    spectra[3] = torch.nan
    bank = torch.rand(5, 33)
    bank[-1] = 0
    result = cuda.bands(spectra, bank, spans(bank), 2.0, None)
    assert result[:, 3].isnan().all() and not result[:, :3].isnan().any() and not result[:, 4:].isnan().any()
