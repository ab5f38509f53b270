"""docs/migration.md says what the layers of other libraries are called here; every row of its tables is run."""

import importlib
import inspect
import os
import pathlib
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from temporal import frontends

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "migration.md"
NUMBERS, *ARGUMENTS = re.findall(r"(?:^\|.*\n)+", DOCUMENT.read_text(encoding="utf-8"), re.M)
MODULES = {"nnAudio": "nnAudio.features", "torchaudio": "torchaudio.transforms", "librosa": "librosa"}
PEERS = {**MODULES, "nnAudio2": "nnAudio2.features.cfp"}


def rows(table: str) -> list[list[str]]:
    """Its cells, without the head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def library(name: str) -> Any:
    """Its module, or a skip."""
    os.environ.setdefault("NNAUDIO_DISABLE_CITATION_REMINDER", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(PEERS[name])
        except Exception as problem:
            pytest.skip(f"rows of {name} are not run without it: {problem!r}")


@pytest.fixture(scope="module")
def sounds() -> dict[str, Any]:
    time = torch.arange(16000) / 16000
    draw = torch.Generator().manual_seed(0)
    chirp = torch.sin(2 * torch.pi * (60 * time + 1500 * time**2))
    x = torch.stack([0.5 * chirp, 0.3 * chirp.flip(-1)]) + 0.05 * torch.randn(2, 16000, generator=draw)
    spectra = torch.stft(x[:, :8000], 512, 128, window=torch.hann_window(512), pad_mode="constant", return_complex=True)
    more = {
        "B": frontends.MelSpectrogram(16000, 512, n_mels=40).filter_bank,
        "P": spectra.abs().square(),
        "M": frontends.MelSpectrogram(16000, 512, hop_length=128, n_mels=40)(x),
        "Q": frontends.CQT(16000, n_bins=252, bins_per_octave=36)(x[0]),
    }
    return {"x": x, "y": x[0].numpy(), "S": spectra, "rate": 16000, "np": np, "torch": torch, **more}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", rows(NUMBERS), ids=lambda row: " ".join(row[:2])[:70])
def test_numbers(row, sounds, monkeypatch):
    name, theirs, ours, within = row
    module = library(name)
    names = {"librosa": module} if name == "librosa" else vars(module)
    layer = re.search(r"([A-Z]\w+)\(", ours)[1]
    if not hasattr(frontends, layer):
        pytest.skip(f"{layer} is not part of this version")
    monkeypatch.undo()  # torch.empty is as it comes: what libraries do with it is their own
    expected = torch.as_tensor(eval(theirs.strip("`"), {**names, **sounds})).detach()
    out = eval(ours.strip("`"), {**vars(frontends), **sounds}).detach()
    assert out.shape == expected.shape
    assert (out - expected).abs().max() <= float(within) * expected.abs().max()


@pytest.mark.parametrize("name, table", list(zip(MODULES, ARGUMENTS, strict=True)))
def test_every_argument_is_told(name, table):
    module = library(name)
    for layer, told in rows(table):
        target = module
        for part in layer.strip("`").split("."):
            target = getattr(target, part)
        parameters = set(inspect.signature(target).parameters) - {"self"}
        assert parameters <= set(re.findall(r"`(\w+)`", told)), layer


def test_a_neighbour_lifts_no_floor():
    """What the document says of top_db: in torchaudio, a loud item changes a quiet one."""
    transforms = library("torchaudio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transforms.MFCC(16000, 13, melkwargs={"n_fft": 512, "n_mels": 40})
    ours = frontends.MFCC(16000, 13, n_fft=512, n_mels=40)
    quiet = torch.randn(8000, generator=torch.Generator().manual_seed(0)) * torch.linspace(1e-4, 1, 8000) ** 4 * 1e-3
    pair = torch.stack([quiet, 1e3 * quiet.flip(-1)])
    torch.testing.assert_close(ours(pair)[0], ours(quiet), rtol=1e-4, atol=1e-2)
    assert (theirs(pair)[0] - theirs(quiet[None])[0]).abs().max() > 1
