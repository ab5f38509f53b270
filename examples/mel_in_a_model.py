"""A spectrogram layer inside somebody's plain nn.Module: it learns to tell two chirps apart in seconds.

python examples/mel_in_a_model.py
"""

import torch
from torch import nn

from temporal.frontends import Chain, Log, MelSpectrogram

RATE = 16000


class Classifier(nn.Module):
    """Waveform in, logits out: the front end is a layer like any other."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.mel = Chain(MelSpectrogram(RATE, n_fft=512, hop_length=160, n_mels=32, fmin=50.0), Log())
        self.body = nn.Sequential(
            nn.Conv1d(32, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(8), nn.Flatten(), nn.Linear(128, classes)
        )

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.body(self.mel(wave))  # [B, samples] -> [B, 32, frames] -> [B, classes]


def chirps(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Half a second that rises or falls between 300 and 3000 Hz, in noise."""
    time = torch.arange(RATE // 2) / RATE
    rising = torch.rand(count) < 0.5
    start, end = torch.where(rising, 300.0, 3000.0), torch.where(rising, 3000.0, 300.0)
    phase = 2 * torch.pi * (start[:, None] * time + (end - start)[:, None] * time**2)
    return torch.sin(phase + 6.28 * torch.rand(count, 1)) + 0.5 * torch.randn(count, time.numel()), rising.long()


def main() -> None:
    torch.manual_seed(0)
    model = Classifier(classes=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(40):
        wave, labels = chirps(32)
        loss = nn.functional.cross_entropy(model(wave), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    wave, labels = chirps(200)
    accuracy = (model(wave).argmax(-1) == labels).float().mean().item()
    print(f"accuracy on 200 new chirps: {100 * accuracy:.1f} %")
    if accuracy < 0.9:
        raise SystemExit("it did not learn: something is broken")


if __name__ == "__main__":
    main()
