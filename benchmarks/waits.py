"""Measure how long `fit` takes to return after its last batch, with and without tf.data tuning.

Run ``python benchmarks/waits.py``; ``benchmarks/README.md`` says what it shows.
"""

import os
import statistics
import subprocess
import sys
import time

import numpy as np

CORES = os.cpu_count() or 1
RUNS = 10


def trained(kind):
    """Train for an epoch again and again; print seconds before and after the end of training."""
    import keras

    from firstcnn.grading import nursery

    if kind == "without":
        nursery._feed_without_autotuning()

    class End(keras.callbacks.Callback):
        """Note when training has ended, and all that is left is to give up what fed it."""

        def on_train_end(self, logs=None):
            self.at = time.perf_counter()

    chance = np.random.default_rng(0)
    x = chance.random((60_000, 28, 28, 1), np.float32)
    y = chance.integers(0, 10, len(x))
    for _ in range(RUNS):
        network = keras.Sequential([
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 5, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ])  # fmt: skip
        network.compile("adam", "sparse_categorical_crossentropy")
        end, start = End(), time.perf_counter()
        network.fit(x, y, batch_size=128, verbose=0, callbacks=[end])
        print(end.at - start, time.perf_counter() - end.at, flush=True)


def main():
    """Print medians and the longest of what several processes at a time took."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = "1"
    for kind in ("with", "without"):
        processes = [
            subprocess.Popen([sys.executable, __file__, kind], stdout=subprocess.PIPE, text=True)
            for _ in range(CORES)
        ]
        lines = [line for one in processes for line in one.communicate()[0].splitlines()]
        fits, waits = zip(*(map(float, line.split()) for line in lines), strict=True)
        print(
            f"{kind} autotuning, {len(fits)} trainings: {statistics.median(fits):.2f} s (median), "
            f"then {statistics.mean(waits):.2f} s (mean), at most {max(waits):.2f} s"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        trained(sys.argv[1])
    else:
        main()
