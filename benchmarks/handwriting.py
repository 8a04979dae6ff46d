"""How many digits are read that do not come from MNIST, before and after each of two changes.

Run ``python benchmarks/handwriting.py --help``; how to read it is in ``benchmarks/README.md``.
"""

import argparse
import statistics
import sys
import time

import numpy as np
from PIL import Image
from training import build_course_network, fit_course_network

from firstcnn import augmentation, data, handwriting, reader, strokes

EACH = 400  # pictures in a set that is drawn


def drawn(**how):
    """Draw all digits in all styles, again and again, in unsteady hands; yield (picture, digit)."""
    kinds = [(digit, style) for digit in range(10) for style in range(strokes.styles(digit))]
    for number in range(EACH):
        digit, style = kinds[number % len(kinds)]
        rng = np.random.default_rng(number)
        settings = {"size": 120, "width": 6, "slant": rng.normal(0, 0.12), "seed": number}
        settings |= {name: value(rng) if callable(value) else value for name, value in how.items()}
        yield strokes.draw(digit, style=style, **settings), digit


def long_flags():
    """Draw ones with a long flag."""
    for number in range(EACH // 4):
        yield strokes.draw(1, style=4, width=6, seed=number), 1


def changed(images, digits, **settings):
    """Change MNIST's images in one way, more than the training does."""
    before = {name: getattr(augmentation, name) for name in settings}
    none = {"SHIFT": 0, "ROTATION": 0, "SHEAR": 0, "SCALE": 0, "STROKE": (0, 0)}
    try:
        for name, value in (none | settings).items():
            before.setdefault(name, getattr(augmentation, name))
            setattr(augmentation, name, value)
        batch = images[..., None].astype(np.float32) / 255
        result = np.asarray(augmentation.distort(batch, (7, 7)))[..., 0]
    finally:
        for name, value in before.items():
            setattr(augmentation, name, value)
    return zip(result, digits, strict=True)


def sets(x_test, y_test):
    """Yield each set's name and its pairs of picture and digit."""
    from sklearn.datasets import load_digits

    few, their = x_test[::10], y_test[::10]
    eight = load_digits()
    yield "MNIST, on paper with a thin pen", zip(strokes.on_paper(few), their, strict=True)
    yield "MNIST, turned by up to 25 degrees", changed(few, their, ROTATION=np.radians(25))
    yield "MNIST, leaning by up to 0.5", changed(few, their, SHEAR=0.5)
    yield "MNIST, stretched by up to 1.3", changed(few, their, SCALE=np.log(1.3))
    yield "MNIST, moved by up to 4 pixels", changed(few, their, SHIFT=4)
    yield "MNIST, strokes thinner or thicker", changed(few, their, STROKE=(-0.8, 1))
    grey = np.rint(255 / 16 * eight.images).astype(np.uint8)
    yield "scikit-learn's digits, 8 x 8", zip(grey, eight.target, strict=True)
    for width in (1, 3, 8, 16, 26):
        yield f"drawn, {width} of 280 pixels wide", drawn(width=width)
    for size in (24, 60, 120, 200):
        yield f"drawn, {size} of 280 pixels high", drawn(size=size, width=max(1.5, size / 16))
    yield "drawn, anywhere", drawn(size=80, centre=lambda rng: tuple(rng.uniform(50, 230, 2)))
    yield "drawn, leaning either way", drawn(slant=lambda rng: rng.uniform(-0.4, 0.4))
    yield "drawn on 28 x 28", drawn(side=28, size=19, width=1.5)
    yield "ones with a long flag", long_flags()


def shrink(picture):
    """Make 28 x 28 pixels by shrinking alone; bright ink on black."""
    grey = handwriting.to_grey(picture)
    grey = 1 - grey if np.median(grey) > 0.5 else grey
    return np.asarray(Image.fromarray(grey).resize((28, 28), Image.Resampling.BOX))


def prepare(picture):
    """Make 28 x 28 pixels as the course does; a refused picture is black, so that it counts."""
    try:
        return handwriting.prepare(picture)
    except handwriting.NoDigit:
        return np.zeros((28, 28), np.float32)


def accuracy(model, images, digits):
    """Return the percentage of images that are read right."""
    answers = model.predict(np.stack(images)[..., None], batch_size=500, verbose=0)
    return 100 * float(np.mean(answers.argmax(axis=1) == digits))


def timed(train, *arguments, **options):
    """Return what `train` makes, its seconds and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    model = train(*arguments, **options)
    return model, time.perf_counter() - wall, time.process_time() - cpu


def plain(x_train, y_train, seed):
    """Train the course's network for three epochs, on MNIST as it is."""
    import keras

    keras.utils.set_random_seed(seed)
    model = build_course_network()
    fit_course_network(model, x_train[..., None].astype("float32") / 255, y_train, verbose=0)
    return model


def median(values, digits=1):
    """Write the median of some numbers, with the least and the most where they differ."""
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return middle if low == high else f"{middle} ({low}-{high})"


def main():
    """Train both networks for each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network (3)")
    options = parser.parse_args()
    if not data.is_complete():
        sys.exit("This needs the whole of MNIST; see firstcnn/data.py for where to put it.")
    (x_train, y_train), (x_test, y_test) = data.load_mnist()
    plains, finals, seconds = [], [], {"plain": [], "final": []}
    for seed in range(options.seeds):
        for kind, models, train in (("plain", plains, plain), ("final", finals, reader.train)):
            model, wall, cpu = timed(train, x_train, y_train, seed=seed)
            models.append(model)
            seconds[kind].append((wall, cpu))
            print(
                f"seed {seed}, {kind}: {wall:.1f} s, {cpu:.1f} CPU s", file=sys.stderr, flush=True
            )
    columns = (
        "plain, shrunk | plain, prepared | final, shrunk | final, prepared | shipped, prepared"
    )
    print(f"| Pictures | Count | {columns} |\n|---|--:|--:|--:|--:|--:|--:|")
    shipped = reader.load()

    def row(name, digits, small, ready):
        cells = [
            "-" if images is None else median([accuracy(model, images, digits) for model in models])
            for models in (plains, finals)
            for images in (small, ready)
        ]
        cells.append(median([accuracy(shipped, ready, digits)]))
        print(f"| {name} | {len(digits):,} | {' | '.join(cells)} |", flush=True)

    row("MNIST's test images, as they are", y_test, None, x_test / np.float32(255))
    for name, pairs in sets(x_test, y_test):
        pictures, digits = zip(*pairs, strict=True)
        row(name, digits, [shrink(one) for one in pictures], [prepare(one) for one in pictures])
    for kind, figures in seconds.items():
        wall, cpu = zip(*figures, strict=True)
        print(f"\nTraining, {kind}: {median(wall)} s, {median(cpu)} CPU s.")


if __name__ == "__main__":
    main()
