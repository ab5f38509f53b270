"""Train on spoken digits from Python, without the command line: a recipe, a run, a result.

python examples/train_digits.py                      the embedded digits (needs the extra `demo`)
python examples/train_digits.py --data RECORDINGS    recordings of your own
python examples/train_digits.py --epochs 1           a quick look
"""

import argparse

import temporal
from temporal.models import DelayedLIF, Mel
from temporal.training import Augment, Data, Delays, Optimizer, Progress, Recipe, evaluate, train


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", help="folder of recordings; the embedded digits otherwise")
    arguments.add_argument("--out", help="run folder; a new one in runs/ otherwise")
    arguments.add_argument("--epochs", type=int, default=40)
    given = arguments.parse_args()

    recipe = Recipe(
        name="my-digits",
        data=Data(path=given.data, embedded="spoken-digits"),
        frontend=Mel(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=40),
        network=DelayedLIF(hidden=128, layers=2, max_delay=24, dropout=0.1),  # delays up to 24 frames, 240 ms
        tail=48,  # frames of nothing at the end: what is still in the delays arrives
        augment=Augment(shift=0.1, gain=6.0, noise=10.0, silence=0.1, speed=0.1, pitch=0.05, band_mask=5, time_mask=0),
        delays=Delays(sigma_end=0.3, until=0.6, round_at=0.9),
        optimizer=Optimizer(lr=5e-3, lr_delay=0.1),
        epochs=given.epochs,
    )
    run = train(recipe, given.out, progress=Progress())
    print(f"the run lies in {run.folder}")
    print(evaluate(run))

    model = temporal.load(run.folder)  # a plain nn.Module: [B, samples] -> logits [B, classes]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; classes: {', '.join(model.labels)}")


if __name__ == "__main__":
    main()
