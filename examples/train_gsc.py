"""Train on Google Speech Commands, from sound: the recipe `gsc` as code, a run, a result.

python examples/train_gsc.py --data speech_commands_v0.02              all words, the official lists
python examples/train_gsc.py --data speech_commands_v0.02 --words 12   ten words, silence, and unknown words
python examples/train_gsc.py --data FOLDER                             any folder of word folders with split lists
"""

import argparse
from collections import Counter

from temporal.models import DelayedLIF, Mel
from temporal.training import Augment, Data, Delays, Optimizer, Progress, Recipe, evaluate, train


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", required=True, help="folder of the words")
    arguments.add_argument("--download", action="store_true", help="fetch version 0.02 into that folder (2.4 GB)")
    arguments.add_argument("--words", type=int, choices=(12, 30, 35), help="the task; every folder otherwise")
    arguments.add_argument("--out", help="run folder; a new one in runs/ otherwise")
    arguments.add_argument("--epochs", type=int, default=40)
    given = arguments.parse_args()

    recipe = Recipe(
        name="my-gsc",
        data=Data(path=given.data, kind="speech-commands", words=given.words, download=given.download),
        frontend=Mel(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40),  # 10 ms a step
        network=DelayedLIF(hidden=256, layers=2, max_delay=24, tau=1.5, dropout=0.25),  # delays up to 240 ms
        tail=36,  # steps of nothing at the end: what is still in the delays arrives
        # Noise from _background_noise_, at 0 to 20 dB below the word, where the folder has any.
        augment=Augment(shift=0.1, gain=6.0, background=0.0, speed=0.1, pitch=0.05, band_mask=7, time_mask=14),
        delays=Delays(sigma_end=0.3, until=0.6, round_at=0.9),
        optimizer=Optimizer(lr=5e-3, lr_delay=0.1, weight_decay=1e-5),
        epochs=given.epochs,
        batch_size=128,
    )
    run = train(recipe, given.out, progress=Progress())
    print(f"the run lies in {run.folder}; temporal stream plays recordings to it")

    result = evaluate(run)
    print(result)
    pairs = zip(result.targets, result.predictions, strict=True)
    mistaken = Counter((result.labels[true], result.labels[said]) for true, said in pairs if true != said)
    for (true, said), times in mistaken.most_common(5):
        print(f"{true} was heard as {said}: {times} times")


if __name__ == "__main__":
    main()
