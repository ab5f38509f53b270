"""One recording: WAV and FLAC come out as the samples that went in; a bad file is named and never half-read."""

import os
import pathlib
import struct

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temporal.datasets import AudioError, AudioHeader, read_audio, read_header

RATE = 8000


def tone(samples=RATE, channels=None):
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / RATE)
    return wave if channels is None else np.stack([wave * (c + 1) / channels for c in range(channels)], axis=1)


# Half a step of the coarsest integer grid that the file stores; float files are exact.
FORMS = {
    ("wav", "PCM_U8"): 2.0**-7,
    ("wav", "PCM_16"): 2.0**-15,
    ("wav", "PCM_24"): 2.0**-23,
    ("wav", "PCM_32"): 2.0**-23,
    ("wav", "FLOAT"): 2.0**-24,
    ("wav", "DOUBLE"): 2.0**-24,
    ("flac", "PCM_S8"): 2.0**-7,
    ("flac", "PCM_16"): 2.0**-15,
    ("flac", "PCM_24"): 2.0**-23,
}


@pytest.mark.parametrize(("suffix", "subtype"), FORMS)
def test_every_form_gives_the_samples_that_went_in(tmp_path, suffix, subtype):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(), RATE, subtype=subtype)
    audio = read_audio(path)
    assert audio.wave.dtype == torch.float32 and audio.wave.shape == (RATE,) and audio.wave.is_contiguous()
    assert audio.sample_rate == RATE and audio.header == AudioHeader(RATE, RATE, 1) and audio.remarks == []
    np.testing.assert_allclose(audio.wave.numpy(), tone(), atol=FORMS[suffix, subtype])


def test_channels_are_averaged_and_said(tmp_path):
    soundfile.write(tmp_path / "stereo.wav", tone(channels=3), RATE, subtype="FLOAT")
    audio = read_audio(tmp_path / "stereo.wav")
    np.testing.assert_allclose(audio.wave.numpy(), tone() * (1 + 2 + 3) / 9, atol=1e-7)  # float32 sums of three
    assert audio.remarks == ["3 channels averaged to one"]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(samples=st.integers(1, 3000), rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]))
def test_resampled_length_is_what_the_header_says(tmp_path_factory, samples, rate):
    path = tmp_path_factory.mktemp("rates") / "a.wav"
    soundfile.write(path, tone(samples), rate)
    wanted = read_header(path).samples_at(16000)
    assert wanted == int(samples * 16000 / rate + 0.5)
    if wanted:
        audio = read_audio(path, 16000)
        assert audio.wave.shape == (wanted,) and bool(audio.wave.isfinite().all())


def test_resampling_keeps_the_tone_and_is_said(tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(), RATE, subtype="FLOAT")
    audio = read_audio(tmp_path / "tone.wav", 16000)
    ideal = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / (2 * RATE))
    # Away from the ends a band-limited tone is interpolated to the resampler's pass-band ripple (HQ: under -100 dB).
    np.testing.assert_allclose(audio.wave.numpy()[1000:-1000], ideal[1000:-1000], atol=1e-4)
    assert audio.remarks == ["resampled from 8000 Hz to 16000 Hz"]


def test_high_frequencies_do_not_alias_when_the_rate_drops(tmp_path):
    wave = np.sin(2 * np.pi * 7000 * np.arange(16000) / 16000)  # beyond 4 kHz, the new Nyquist frequency
    soundfile.write(tmp_path / "high.wav", wave, 16000)
    assert read_audio(tmp_path / "high.wav", 8000).wave[200:-200].abs().max() < 1e-3


def nan_file(path):
    wave = tone().astype(np.float32)
    wave[1234] = np.nan
    soundfile.write(path, wave, RATE, subtype="FLOAT")


def infinite_file(path):
    wave = tone(channels=2).astype(np.float32)
    wave[77, 1] = -np.inf
    soundfile.write(path, wave, RATE, subtype="FLOAT")


def too_large_for_float32(path):
    soundfile.write(path, np.full(10, 1e300), RATE, subtype="DOUBLE")


def cut(path, keep):
    soundfile.write(path, tone(), RATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])


def damaged_flac(path):
    soundfile.write(path, tone(), RATE)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def flac_without_length(path):
    soundfile.write(path, tone(), RATE)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)  # 36 bits of STREAMINFO: the number of samples, 0 where the encoder could not know
    path.write_bytes(content)


def broken_link(path):
    path.symlink_to("nowhere.wav")


BAD = {
    "nan.wav": (nan_file, "sample 1234 is NaN or infinite"),
    "infinite.wav": (infinite_file, "sample 77 is NaN or infinite"),
    "huge.wav": (too_large_for_float32, "sample 0 is NaN or infinite"),
    "empty.wav": (lambda path: path.write_bytes(b""), "is empty"),
    "empty.flac": (lambda path: path.write_bytes(b""), "is empty"),
    "no_samples.wav": (lambda path: soundfile.write(path, np.zeros(0), RATE), "holds no samples"),
    "cut.wav": (lambda path: cut(path, 0.6), "is cut off: its header promises 16000 bytes of sound"),
    "cut_by_one.wav": (lambda path: cut(path, 0.99999), "is cut off: its header promises 16000 bytes"),
    "cut_in_header.wav": (lambda path: cut(path, 0.001), "not a recording that can be read"),
    "cut.flac": (lambda path: cut(path, 0.6), "is damaged or cut off"),
    "cut_by_one.flac": (lambda path: cut(path, 0.99999), "is damaged or cut off"),
    "damaged.flac": (damaged_flac, "is damaged or cut off"),
    "no_length.flac": (flac_without_length, "does not say how long it is"),
    "text.wav": (lambda path: path.write_text("this is not a recording\n" * 9), "not a recording that can be read"),
    "text.flac": (lambda path: path.write_text("this is not a recording\n" * 9), "not a recording that can be read"),
    "folder.wav": (lambda path: path.mkdir(), "is a folder"),
    "missing.wav": (lambda path: None, "no such file"),
    "link.wav": (broken_link, "no such file, it is a symbolic link to nowhere.wav"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(tmp_path, name):
    make, message = BAD[name]
    make(tmp_path / name)
    with pytest.raises(AudioError) as caught:
        read_audio(tmp_path / name, 16000)
    assert str(caught.value).startswith(f"{tmp_path / name}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "secret.wav", tone(), RATE)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a test that runs as root may read everything
    with pytest.raises(AudioError, match="no permission"):
        read_audio(tmp_path / "secret.wav")


def test_too_short_to_give_a_sample(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.ones(1), 48000)
    with pytest.raises(AudioError, match=r"one\.wav: 1 samples at 48000 Hz are none at 16000 Hz"):
        read_audio(tmp_path / "one.wav", 16000)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_is_read_to_its_end(tmp_path, size):
    soundfile.write(tmp_path / "pipe.wav", tone(), RATE)
    content = bytearray((tmp_path / "pipe.wav").read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    (tmp_path / "pipe.wav").write_bytes(content)
    assert len(read_audio(tmp_path / "pipe.wav").wave) == RATE


def test_chunks_around_the_sound_are_passed_over(tmp_path):
    soundfile.write(tmp_path / "plain.wav", tone(), RATE)
    content = (tmp_path / "plain.wav").read_bytes()
    extra = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # an odd size is padded to an even one
    content = content[:36] + extra + content[36:] + extra
    content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    (tmp_path / "chunks.wav").write_bytes(content)
    torch.testing.assert_close(read_audio(tmp_path / "chunks.wav").wave, read_audio(tmp_path / "plain.wav").wave)


@pytest.mark.parametrize("rate", [0, -1, 16000.0, "16000"])
def test_bad_sample_rates(tmp_path, rate):
    with pytest.raises(ValueError, match="read_audio: sample_rate="):
        read_audio(tmp_path / "a.wav", rate)


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.fspath])
def test_any_kind_of_path(tmp_path, kind):
    path = tmp_path / "zwölf Äpfel ٣.wav"
    soundfile.write(path, tone(), RATE)
    assert len(read_audio(kind(path)).wave) == RATE
