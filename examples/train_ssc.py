"""Train on the Spiking Speech Commands, 35 words: the recipe `ssc` as code, a run, a result.

python examples/train_ssc.py --data SSC              the folder with ssc_train.h5, ssc_valid.h5 and ssc_test.h5
python examples/train_ssc.py --data WORDS.h5         any file in their layout, such as `temporal spikes` makes
python examples/train_ssc.py --data SSC --dt 0.004   in finer steps
"""

import argparse

from temporal.models import DelayedLIF
from temporal.training import Data, Delays, Optimizer, Progress, Recipe, SpikeAugment, Spikes, evaluate, train


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", required=True, help="the published files' folder, or one file in their layout")
    arguments.add_argument(
        "--download", action="store_true", help="fetch the published files into that folder (2.5 GB)"
    )
    arguments.add_argument("--out", help="run folder; a new one in runs/ otherwise")
    arguments.add_argument("--epochs", type=int, default=40)
    arguments.add_argument("--dt", type=float, default=0.010, help="length of a step, in seconds")
    given = arguments.parse_args()

    longest = round(0.3 / given.dt)  # delays up to 0.3 s, in steps
    recipe = Recipe(
        name="my-ssc",
        data=Data(path=given.data, kind="ssc", download=given.download),  # its own validation file watches the run
        frontend=None,  # spikes are steps already
        spikes=Spikes(dt=given.dt, merge=5),  # the files are read step by step, never whole
        network=DelayedLIF(hidden=512, layers=2, max_delay=longest, tau=1.5, dropout=0.25),
        tail=3 * longest // 2,
        augment=SpikeAugment(channel_shift=2, shift=0.05, time_mask=longest // 3, channel_mask=10),
        delays=Delays(sigma_end=0.5, until=0.5, round_at=0.9),
        optimizer=Optimizer(lr=5e-3, lr_delay=0.1, weight_decay=1e-5),
        epochs=given.epochs,
        batch_size=128,
    )
    run = train(recipe, given.out, progress=Progress())
    print(f"the run lies in {run.folder}")
    print(evaluate(run))


if __name__ == "__main__":
    main()
