"""Train the course's final network and the tutorial's, in turn, and compare them.

Run ``python benchmarks/training.py --help``; ``benchmarks/README.md`` says how to read the table.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

GOALS = (0.98, 0.99)


# --- The two networks. Keras is imported only where a network trains: the command itself
# --- stays small, so that the memory measured is a training's own.


def build_course_network():
    """Build the network that the course ends with: 46,730 parameters, not compiled."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(16, kernel_size=5, strides=2, activation="relu"),
            layers.Conv2D(32, kernel_size=5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def fit_course_network(model, x_train, y_train, epochs=3, **fit_options):
    """Compile and fit the course's network; return its history.

    The learning rate climbs to 0.006 over the first quarter of the training and then falls to 0
    along a cosine. It ends with the training, so `epochs` is chosen beforehand: 1 for more than
    98 %, 3 for more than 99 % on all of MNIST.
    """
    import keras

    batch_size = 128
    steps = epochs * math.ceil(len(x_train) / batch_size)
    warmup = steps // 4
    learning_rate = keras.optimizers.schedules.CosineDecay(
        0.0006, decay_steps=steps - warmup, warmup_target=0.006, warmup_steps=warmup
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=16,
    )
    return model.fit(x_train, y_train, batch_size=batch_size, epochs=epochs, **fit_options)


def build_tutorial_network():
    """Build the network of the tutorial that the course grew out of."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(28, kernel_size=(3, 3)),  # no activation, as in the tutorial
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )


def fit_tutorial_network(model, x_train, y_train, epochs=10, **fit_options):
    """Compile and fit the tutorial's network as the tutorial does; return its history."""
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.fit(x_train, y_train, epochs=epochs, **fit_options)  # batches of 32


# name -> (title, build, fit, epochs, images). None is all 60,000 of the images.
CONTESTANTS = {
    "tutorial": ("tutorial, 10 epochs", build_tutorial_network, fit_tutorial_network, 10, None),
    "course-1": ("course, 1 epoch", build_course_network, fit_course_network, 1, None),
    "course-3": ("course, 3 epochs", build_course_network, fit_course_network, 3, None),
    "subset-12": ("course, 12,000 images", build_course_network, fit_course_network, 3, 12000),
    "subset-6": ("course, 6,000 images", build_course_network, fit_course_network, 3, 6000),
}
QUICK_EPOCHS = {"tutorial": 3}  # with --quick, three of its ten


# --- One training, in a process of its own; it writes a line of JSON after each epoch.


def train_once(name, seed, epochs):
    """Train one network and print its scores as they come."""
    import keras

    from firstcnn.data import is_complete, load_mnist

    _, build, fit, _, images = CONTESTANTS[name]
    if not is_complete():
        sys.exit(
            "This comparison needs the whole of MNIST; see firstcnn/data.py for where to put it."
        )
    (x_train, y_train), (x_test, y_test) = load_mnist()
    x_train, y_train = x_train[:images, ..., None].astype("float32") / 255, y_train[:images]
    x_test = x_test[..., None].astype("float32") / 255

    class Referee(keras.callbacks.Callback):
        """Score the test set after each epoch, with the clocks stopped."""

        def start(self):
            self.wall, self.cpu = time.perf_counter(), time.process_time()

        def on_train_begin(self, logs=None):
            self.seconds = self.cpu_seconds = 0.0

        def on_epoch_end(self, epoch, logs=None):
            self.seconds += time.perf_counter() - self.wall
            self.cpu_seconds += time.process_time() - self.cpu
            digits = self.model.predict(x_test, batch_size=1000, verbose=0).argmax(axis=1)
            report = {
                "epoch": epoch + 1,
                "accuracy": float((digits == y_test).mean()),
                "seconds": self.seconds,
                "cpu_seconds": self.cpu_seconds,
                "parameters": self.model.count_params(),
                "peak_mb": peak_memory_mb(),
            }
            print(json.dumps(report), flush=True)
            self.start()

    keras.utils.set_random_seed(seed)
    model = build()
    referee = Referee()
    referee.start()  # before fit, so that compiling the graph counts
    fit(model, x_train, y_train, epochs=epochs, verbose=0, callbacks=[referee])


def peak_memory_mb():
    """Return the most memory this process has held, in MB; None where it cannot be known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def run_apart(name, seed, epochs, on_epoch):
    """Run `train_once` in a fresh process; return its reports, one per epoch."""
    command = [sys.executable, os.path.abspath(__file__), "--one", name]
    command += ["--first-seed", str(seed), "--epochs", str(epochs)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | dict(os.environ)
    reports = []
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process:
            try:
                for line in process.stdout:
                    if line.startswith("{"):
                        reports.append(json.loads(line))
                        on_epoch(reports[-1])
            except BaseException:
                process.kill()
                raise
        if process.returncode or len(reports) != epochs:
            errors.seek(0)
            sys.exit(f"{name}, seed {seed}: the training failed.\n{errors.read()[-3000:]}")
    return reports


# --- The comparison.


def first_reaching(goal, reports, key="seconds"):
    """Return what had been spent when the test accuracy first reached `goal`, or None."""
    return next((r[key] for r in reports if r["accuracy"] >= goal), None)


def spread(values, form):
    """Write numbers as 'median (least-most)'; None counts as not reached."""
    known = [value for value in values if value is not None]
    if not known:
        return "never"
    text = format(statistics.median(known), form)
    if len(known) > 1:
        text += f" ({min(known):{form}}-{max(known):{form}})"
    return text if len(known) == len(values) else f"{text}, {len(known)} of {len(values)}"


def compare(seeds, quick):
    """Train every network once per seed, in turn, and print the table."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    epochs = {name: contestant[3] for name, contestant in CONTESTANTS.items()}
    if quick:
        epochs |= QUICK_EPOCHS
    runs = {name: [] for name in CONTESTANTS}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    tensorflow = next(v for v in map(installed, ("tensorflow-cpu", "tensorflow")) if v)
    console.print(
        f"{platform.system()}, {cores} cores, Python {platform.python_version()}, "
        f"TensorFlow {tensorflow}, Keras {version('keras')}; seeds {seeds[0]} to {seeds[-1]}"
    )
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), Elapsed()
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        task = progress.add_task("", total=len(seeds) * sum(epochs.values()))
        for seed in seeds:
            for name, (title, *_) in CONTESTANTS.items():
                progress.update(task, description=f"seed {seed}: {title}")
                runs[name].append(
                    run_apart(name, seed, epochs[name], lambda _: progress.advance(task))
                )
                last = runs[name][-1][-1]
                progress.console.print(
                    f"seed {seed}  {title:22}{last['accuracy']:8.2%} at epoch {epochs[name]:2}, "
                    f"{last['seconds']:6.1f} s in fit ({last['cpu_seconds']:6.1f} s of CPU)",
                    highlight=False,
                )

    table = Table(title="Seconds inside fit, test images: median (least-most) over the seeds")
    for heading in ("network", "param.", "s to 98 %", "s to 99 %", "s in all", "CPU s in all"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    table.add_column("final accuracy, %", justify="right")
    table.add_column("peak MB", justify="right")
    for name, (title, *_) in CONTESTANTS.items():
        if quick and name in QUICK_EPOCHS:
            title += f" (stopped: {epochs[name]})"
        finals = [reports[-1] for reports in runs[name]]
        peaks = [r["peak_mb"] for r in finals if r["peak_mb"]]
        table.add_row(
            title,
            f"{finals[0]['parameters']:,}",
            *(spread([first_reaching(goal, r) for r in runs[name]], ".1f") for goal in GOALS),
            spread([r["seconds"] for r in finals], ".1f"),
            spread([r["cpu_seconds"] for r in finals], ".1f"),
            spread([100 * r["accuracy"] for r in finals], ".2f"),
            f"{statistics.median(peaks):,.0f}" if peaks else "?",
        )
    console.print(table)

    for key, clock in (("seconds", "time"), ("cpu_seconds", "CPU time")):
        ratios = [
            slow / fast
            for slow, fast in zip(
                (first_reaching(0.98, r, key) for r in runs["tutorial"]),
                (first_reaching(0.98, r, key) for r in runs["course-1"]),
                strict=True,
            )
            if slow and fast
        ]
        console.print(
            f"98 %, tutorial's {clock} over the course's in the same round: "
            f"{spread(ratios, '.1f') if ratios else 'unknown'}",
            highlight=False,
        )


def installed(distribution):
    """Return the version of an installed distribution, or None."""
    try:
        return version(distribution)
    except ModuleNotFoundError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="trainings per network (default 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="count the seeds from here")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one seed, 3 of the tutorial's 10 epochs: a few minutes",
    )
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        train_once(options.one, options.first_seed, options.epochs)
        return
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    count = 1 if options.quick else options.seeds
    compare(range(options.first_seed, options.first_seed + count), options.quick)


if __name__ == "__main__":
    main()
