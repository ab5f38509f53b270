"""Which front end helps one small classifier most, and what does learning the filters buy?

python examples/compare_front_ends.py --data RECORDINGS --out FOLDER    the whole table, an hour; goes on where it stopped
python examples/compare_front_ends.py --data RECORDINGS --quick         a minute: does it run?

RECORDINGS is the Free Spoken Digit Dataset, DIGIT_SPEAKER_INDEX.wav at 8 kHz. Everything but the front end is the same:
the network, the number of epochs, the optimizer, the order of the batches (by seed). The result is that of the last
epoch; nothing is chosen on the test part. What does not learn is computed once. The number of epochs was set before any
test, with --validate: it trains on a part of the training part and prints the accuracy on the rest of it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from temporal.datasets import read_audio
from temporal.frontends import CQT, LEAF, MFCC, PCEN, STFT, Chain, Log, MelSpectrogram, SincConv

RATE, HOP, BINS = 8000, 80, 40
SAMPLES = 5120  # 0.64 s: nine in ten recordings are shorter, the others are cut
EPOCHS, BATCH, LEARNING_RATE = 6, 32, 3e-3
SEEDS = (0, 1, 2)
COMPRESSION = ("gain", "bias", "power", "smoothing")


class Power(nn.Module):
    """Filtered signals at every sample -> their mean power over 25 ms, every 10 ms."""

    def forward(self, filtered: Tensor) -> Tensor:
        return nn.functional.avg_pool1d(filtered.square(), 200, HOP, padding=100)


class Contestant(NamedTuple):
    """A front end in two parts, and the contestant that differs only in what learns."""

    fixed: Callable[[], nn.Module]  # computed once for all recordings
    learned: Callable[[], nn.Module]  # trained along with the network
    start: str = ""


def mel() -> nn.Module:
    return MelSpectrogram(RATE, n_fft=256, win_length=200, hop_length=HOP, n_mels=BINS, fmin=60.0)


def pcen(*learn: str) -> nn.Module:
    options = {"gain": 0.96, "smoothing": 0.04, "eps": 1e-10, "initial": "first"}
    return PCEN(RATE, HOP, size=BINS, trainable=learn, **options)


def leaf(*learn: str, **options: bool) -> nn.Module:
    return LEAF(RATE, n_filters=BINS, hop_length=HOP, trainable=learn, **options)


def sinc(*learn: str) -> nn.Module:
    filters = SincConv(RATE, BINS, 125, trainable=learn)
    return nn.Sequential(filters, Power(), Log(1e-8))


def stft(*learn: str) -> nn.Module:
    return Chain(STFT(256, win_length=200, hop_length=HOP, trainable=learn), Log(1e-4))


CONTESTANTS = {
    "mel": Contestant(lambda: Chain(mel(), Log(1e-6)), nn.Identity),
    "MFCC": Contestant(
        lambda: MFCC(RATE, 20, top_db=None, n_fft=256, win_length=200, hop_length=HOP, n_mels=BINS), nn.Identity
    ),
    "CQT": Contestant(lambda: Chain(CQT(RATE, hop_length=HOP, fmin=110.0, n_bins=60), Log(1e-4)), nn.Identity),
    "mel + PCEN": Contestant(lambda: Chain(mel(), pcen()), nn.Identity),
    "mel + PCEN, learned": Contestant(mel, lambda: pcen(*COMPRESSION), "mel + PCEN"),
    "STFT": Contestant(stft, nn.Identity),
    "STFT, learned basis": Contestant(nn.Identity, lambda: stft("basis"), "STFT"),
    "SincConv": Contestant(sinc, nn.Identity),
    "SincConv, learned": Contestant(nn.Identity, lambda: sinc("low", "band"), "SincConv"),
    "LEAF": Contestant(leaf, nn.Identity),
    "LEAF, learned PCEN": Contestant(lambda: leaf(pcen=False), lambda: pcen(*COMPRESSION), "LEAF"),
    "LEAF, all learned": Contestant(
        nn.Identity, lambda: leaf("center", "bandwidth", "pooling", "pcen"), "LEAF, learned PCEN"
    ),
}


class Digits(NamedTuple):
    """All recordings [N, SAMPLES], their digits, and who said them, in which take."""

    waves: Tensor
    labels: Tensor
    speakers: list[str]
    takes: list[int]


def read(folder: Path, takes: int) -> Digits:
    """The recordings of a folder, the first `takes` of each digit and speaker; zeros after their ends."""
    waves, labels, speakers, numbers = [], [], [], []
    for path in sorted(folder.glob("*_*_*.wav")):
        digit, speaker, take = path.stem.split("_")
        if int(take) >= takes:
            continue
        wave = torch.as_tensor(read_audio(path, sample_rate=RATE).wave)[:SAMPLES]
        waves.append(nn.functional.pad(wave, (0, SAMPLES - len(wave))))
        labels.append(int(digit))
        speakers.append(speaker)
        numbers.append(int(take))
    if not waves:
        raise SystemExit(f"no DIGIT_SPEAKER_INDEX.wav in {folder}")
    return Digits(torch.stack(waves), torch.tensor(labels), speakers, numbers)


def body(bins: int) -> nn.Module:
    """[B, bins, frames] -> [B, 10]: three convolutions over time and a mean."""
    return nn.Sequential(
        nn.BatchNorm1d(bins),
        nn.Conv1d(bins, 64, 5, stride=2, padding=2), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Conv1d(64, 96, 3, stride=2, padding=1), nn.BatchNorm1d(96), nn.ReLU(),
        nn.Conv1d(96, 96, 3, padding=1), nn.BatchNorm1d(96), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(96, 10),
    )  # fmt: skip


def trained(
    features: Tensor, contestant: Contestant, labels: Tensor, train: Tensor, test: Tensor, seed: int, epochs: int
) -> list[float]:
    """Accuracy on `test` after each epoch, the number of weights that learn in the front end, and in all."""
    torch.manual_seed(seed)
    front = contestant.learned()
    with torch.no_grad():
        bins = front(features[:1]).shape[1]
    network = body(bins)
    model = nn.Sequential(front, network)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    batches = -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * batches)
    accuracies = []
    for _ in range(epochs):
        model.train()
        for batch in train[torch.randperm(len(train))].split(BATCH):
            loss = nn.functional.cross_entropy(model(features[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            right = [(model(features[batch]).argmax(-1) == labels[batch]) for batch in test.split(250)]
        accuracies.append(torch.cat(right).float().mean().item())
    weights = [sum(p.numel() for p in part.parameters()) for part in (front, network)]
    return [accuracies[-1], *weights, *accuracies]


def splits(digits: Digits, quick: bool) -> dict[str, tuple[Tensor, Tensor, int]]:
    """Name of a run -> training and test recordings, seed."""
    takes, speakers = torch.tensor(digits.takes), sorted(set(digits.speakers))
    official = (torch.where(takes >= 5)[0], torch.where(takes < 5)[0])
    runs = {f"official, seed {seed}": (*official, seed) for seed in (SEEDS[:1] if quick else SEEDS)}
    for speaker in speakers[:1] if quick else speakers:
        own = torch.tensor([name == speaker for name in digits.speakers])
        runs[f"without {speaker}"] = (torch.where(~own)[0], torch.where(own)[0], 0)
    return runs


def compare(digits: Digits, out: Path, only: list[str], epochs: int, quick: bool) -> dict[str, dict[str, dict]]:
    """All runs, each kept in a file as soon as it is done."""
    results: dict[str, dict[str, dict]] = json.loads(out.read_text()) if out.exists() else {}
    cache: dict[str, Tensor] = {}
    for run, (train, test, seed) in splits(digits, quick).items():
        for name in only:
            if run in results.get(name, {}):
                continue
            contestant = CONTESTANTS[name]
            if name not in cache:
                with torch.no_grad():
                    fixed = contestant.fixed()
                    cache[name] = torch.cat([fixed(part) for part in digits.waves.split(64)])
            start = time.process_time()
            accuracy, front, network = trained(cache[name], contestant, digits.labels, train, test, seed, epochs)[:3]
            seconds = time.process_time() - start
            results.setdefault(name, {})[run] = {
                "accuracy": accuracy, "front": int(front), "network": int(network), "seconds": seconds
            }  # fmt: skip
            out.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{name:22} {run:22} {100 * accuracy:6.2f} %  {seconds:5.1f} s", flush=True)
    return results


def table(results: dict[str, dict[str, dict]], about: str) -> str:
    """The results as markdown."""
    lines = [
        "# Front ends of one small classifier",
        "",
        about,
        "",
        "| front end | official split (%) | unseen speaker (%) | worst speaker (%) | weights, front end + network | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    scores = {name: _scores(runs) for name, runs in results.items()}
    for name, (official, unseen) in scores.items():
        runs = list(results[name].values())
        lines.append(
            f"| {name} | {_mean(official)} | {_mean(unseen)} | {min(unseen, default=float('nan')):.1f} | "
            f"{runs[0]['front']:,} + {runs[0]['network']:,} | {statistics.median(run['seconds'] for run in runs):.0f} |"
        )
    lines += ["", "What learning bought, in points (learned minus the same layer as it starts, run by run):", ""]
    for name, contestant in CONTESTANTS.items():
        if name in scores and contestant.start in scores:
            gains = [
                [100 * (run["accuracy"] - results[contestant.start][key]["accuracy"])
                 for key, run in results[name].items() if key.startswith(kind) and key in results[contestant.start]]
                for kind in ("official", "without")
            ]  # fmt: skip
            lines.append(
                f"- {name}, against {contestant.start}: official split {_mean(gains[0], '+')}, "
                f"unseen speaker {_mean(gains[1], '+')}"
            )
    for kind, place in (("the official split", 0), ("unseen speakers", 1)):
        means = {name: statistics.mean(pair[place]) for name, pair in scores.items() if pair[place]}
        order = sorted(means, key=lambda name: -means[name])
        lines += ["", f"On {kind}, {order[0]} has the highest mean; the order is: {'; '.join(order)}."] if order else []
    return "\n".join(lines) + "\n"


def _scores(runs: dict[str, dict]) -> tuple[list[float], list[float]]:
    official = [100 * run["accuracy"] for key, run in runs.items() if key.startswith("official")]
    return official, [100 * run["accuracy"] for key, run in runs.items() if key.startswith("without")]


def _mean(values: list[float], sign: str = "") -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of FSDD's recordings")
    parser.add_argument("--out", type=Path, default=Path("front-ends"), help="folder of results.json and table.md")
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--quick", action="store_true", help="one epoch, one run of each kind, a few recordings")
    parser.add_argument(
        "--validate", action="store_true", help="accuracy after each epoch on a part of the training part"
    )
    given = parser.parse_args()
    digits = read(given.data, takes=8 if given.quick else 50)
    takes = torch.tensor(digits.takes)
    if given.validate:
        for name in given.only:
            contestant = CONTESTANTS[name]
            with torch.no_grad():
                features = contestant.fixed()(digits.waves)
            train, rest = torch.where(takes >= 10)[0], torch.where((takes >= 5) & (takes < 10))[0]
            accuracies = trained(features, contestant, digits.labels, train, rest, 0, EPOCHS)[3:]
            print(name, " ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    results = compare(digits, given.out / "results.json", given.only, 1 if given.quick else EPOCHS, given.quick)
    speakers = len(set(digits.speakers))
    about = (
        f"Free Spoken Digit Dataset, {len(digits.labels):,} recordings of {speakers} speakers at 8 kHz, cut at "
        f"{SAMPLES / RATE:.2f} s. Three convolutions over time, Adam with one cycle to {LEARNING_RATE:g}, "
        f"{1 if given.quick else EPOCHS} epochs (set before any test, on a part of the training part), the last epoch. "
        f"Official split: takes 0 to 4 are tested, {len(SEEDS)} seeds, mean ± deviation of the seeds. Unseen speaker: "
        "each speaker left out once, one seed, mean ± deviation of the speakers. A lead of less than a deviation says "
        "little. CPU s: one run on one core, the frames of what is fixed computed before. Written by "
        "`examples/compare_front_ends.py`, which says the rest."
    )
    text = table(results, about)
    (given.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
