"""The course's Jupyter kernel: IPython's, except that MNIST is read from a local copy.

``make lab`` and the grader start Jupyter with `jupyter_path` in front of
``JUPYTER_PATH``. The kernelspec ``python3`` in that folder then hides ipykernel's
own and starts ``python -m firstcnn.kernel``. In such a kernel, and nowhere else,
``keras.datasets.mnist.load_data()`` returns the verified copy that
`firstcnn.data.load_local` finds, and does what it always did where there is none. So
an unmodified notebook works offline. Keras itself is imported only when a notebook
asks for it.

What TensorFlow writes to stderr when it starts would cost the points of a graded cell.
The kernelspec's ``TF_CPP_MIN_LOG_LEVEL`` keeps most of it away; the lines about oneDNN
heed no setting, so this kernel imports TensorFlow with stderr closed to native code.
"""

import os
import sys

if __name__ == "__main__":
    # As ipykernel_launcher does: no file beside the notebook may shadow a module that the
    # kernel needs to start. IPython adds the folder again, behind the standard library.
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]

import contextlib
import functools
import re
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["config_path", "install", "jupyter_path", "native_stderr_closed"]

_HOOKED = "keras.src.datasets.mnist"  # defines load_data; keras and tf.keras import it from there
_NOISY = "tensorflow"


def jupyter_path():
    """Return the folder to put in front of ``JUPYTER_PATH`` to get this kernel.

    Returns
    -------
    str
    """
    return str(Path(__file__).resolve().parent / "jupyter")


def config_path():
    """Return the folder to put in front of ``JUPYTER_CONFIG_PATH`` for JupyterLab's defaults.

    Returns
    -------
    str
    """
    return str(Path(jupyter_path()) / "config")


def install():
    """Arrange that Keras, when it is imported later, reads MNIST from a local copy.

    Raises
    ------
    RuntimeError
        If Keras is imported already: then this would have no effect.
    """
    if _HOOKED in sys.modules:
        raise RuntimeError("firstcnn.kernel.install() must come before Keras is imported")
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    """An import finder that takes part in the import of two modules, and leaves all others."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        """Find the module as Python does, and have it run as the course needs it."""
        if fullname not in (_HOOKED, _NOISY):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_quietly(module):
                with native_stderr_closed():
                    run(module)

            def run_and_wrap(module):
                run(module)
                module.load_data = _local_first(module.load_data)

            spec.loader.exec_module = run_quietly if fullname == _NOISY else run_and_wrap
        return spec


@contextlib.contextmanager
def native_stderr_closed():
    """Send what is written to file descriptor 2 nowhere.

    A kernel's own ``sys.stderr`` does not write there: warnings and tracebacks are seen as ever.
    """
    try:
        kept = os.dup(2)
    except OSError:  # no such descriptor: nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _local_first(load_data):
    """Wrap Keras' ``load_data``: the local copy if there is one, else what Keras does."""

    @functools.wraps(load_data)  # also sets __wrapped__, by which firstcnn.data calls Keras' own
    def local_first(path="mnist.npz"):
        from firstcnn import data

        local = data.load_local()
        return load_data(path) if local is None else local

    return local_first


def main():
    """Start the kernel; the command line is ipykernel's."""
    install()
    run()


def run():
    """Run a kernel in this process, in which `install` has been called; returns when it ends."""
    from ipykernel import kernelapp

    app = kernelapp.IPKernelApp.instance()
    app.initialize()
    _import_from_folder()
    app.shell.set_custom_exc((NameError,), _explain_missing_answer)
    app.start()


def _import_from_folder():
    """Let cells import modules that are beside the notebook, as in JupyterLab.

    IPython leaves the folder out where Python was started isolated, as kernels of the grader are.
    """
    if "" not in sys.path:
        names = [Path(place).name for place in sys.path]
        sys.path.insert(names.index("site-packages") if "site-packages" in names else 0, "")


def _explain_missing_answer(shell, kind, error, trace, tb_offset=None):
    """Say in a check's own words that an answer is missing, where Python would show a NameError.

    A name that a check needs is missing when the answer's cell stopped with an error, was not
    run, or gave its value another name. All other errors are shown as ever.
    """
    name = getattr(error, "name", None)
    if name and _is_check(shell, trace):
        from firstcnn.check import missing

        # Its name stays that of the kernel's reply: nbgrader shows both where they differ.
        error = missing(name)
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset, running_compiled_code=True)


def _is_check(shell, trace):
    """Tell whether an error was raised by the top level of a cell that checks an answer."""
    import linecache

    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    if frame.f_globals is not shell.user_ns or frame.f_code.co_name != "<module>":
        return False
    source = "".join(linecache.getlines(frame.f_code.co_filename))
    return re.search(r"^from firstcnn import (.*, )?check\b", source, re.MULTILINE) is not None


if __name__ == "__main__":
    main()
