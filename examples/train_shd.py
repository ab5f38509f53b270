"""Train on the Spiking Heidelberg Digits: the recipe `shd` as code, a run, and a result of every speaker.

python examples/train_shd.py --data SHD              the folder with shd_train.h5 and shd_test.h5 (--download fetches them)
python examples/train_shd.py --data VOICES.h5        any file in their layout, such as `temporal spikes` makes
python examples/train_shd.py --data SHD --plan       what it will take on this machine
"""

import argparse

from temporal.models import DelayedLIF
from temporal.training import Data, Delays, Optimizer, Progress, Recipe, SpikeAugment, Spikes, evaluate, plan, train


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", required=True, help="the published files' folder, or one file in their layout")
    arguments.add_argument("--download", action="store_true", help="fetch the published files into that folder")
    arguments.add_argument("--out", help="run folder; a new one in runs/ otherwise")
    arguments.add_argument("--epochs", type=int, default=60)
    arguments.add_argument("--plan", action="store_true", help="measure four steps, say what all will take, and stop")
    given = arguments.parse_args()

    recipe = Recipe(
        name="my-shd",
        # A tenth of the training file watches the run; nothing is chosen on it. The test file is read once, at the end.
        data=Data(path=given.data, kind="shd", validation=0.1, download=given.download),
        frontend=None,  # spikes are steps already
        spikes=Spikes(preset="10ms"),  # counts in 10 ms, five units a channel
        network=DelayedLIF(hidden=256, layers=2, max_delay=24, tau=1.005, dropout=0.4),  # delays up to 240 ms
        tail=36,  # steps of nothing at the end: what is still in the delays arrives
        augment=SpikeAugment(channel_shift=4, shift=0.05, time_mask=10, channel_mask=10),
        delays=Delays(sigma_end=0.5, until=0.5, round_at=0.9),
        optimizer=Optimizer(lr=5e-3, lr_delay=0.1, weight_decay=1e-5),
        epochs=given.epochs,
        batch_size=128,
    )
    if given.plan:
        print(plan(recipe))
        return
    run = train(recipe, given.out, progress=Progress())
    print(f"the run lies in {run.folder}")

    result = evaluate(run)
    print(result)
    right: dict[str, list[bool]] = {}
    for speaker, target, said in zip(result.speakers, result.targets, result.predictions, strict=True):
        right.setdefault(speaker, []).append(target == said)
    for speaker, each in sorted(right.items()):
        print(f"speaker {speaker}: {100 * sum(each) / len(each):.1f} % of {len(each)}")


if __name__ == "__main__":
    main()
