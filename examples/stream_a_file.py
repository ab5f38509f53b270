"""Run a trained network over a recording as if it were live: 20 ms at a time, with the answer of the whole.

python examples/stream_a_file.py RUN RECORDING.wav
"""

import sys

import torch

import temporal
from temporal.datasets import read_audio
from temporal.models import deploy
from temporal.streaming import Stream


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    model = deploy(temporal.load(sys.argv[1]))  # whole-step delays, float64
    wave = read_audio(sys.argv[2], model.sample_rate).wave

    stream = Stream(model)
    for chunk in wave.split(model.sample_rate // 50):  # from a microphone they would come one by one
        for event in stream.push(chunk):
            print(f"{event.start:6.2f} s to {event.end:6.2f} s: {event.label} ({event.score:.2f})")
    for event in stream.finish():
        print(f"{event.start:6.2f} s to {event.end:6.2f} s: {event.label} ({event.score:.2f})")

    whole = model(wave[None].double())[0]
    print(f"streamed: {model.labels[int(stream.whole.argmax())]}, in one piece: {model.labels[int(whole.argmax())]}")
    torch.testing.assert_close(stream.whole, whole)


if __name__ == "__main__":
    main()
