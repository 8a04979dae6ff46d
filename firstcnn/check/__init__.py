"""Checks on students' answers, with messages that say what is wrong.

Every check climbs the same ladder and stops at the first step that does not
hold: is there an answer? is it of the right kind? dtype? number of axes?
shape? values? A check that holds prints one line; one that does not raises
:class:`CheckFailed`, whose message says what the student has, what was
expected and where to look, and which notebooks show without library frames.

Checks judge behaviour, not spelling, and use data only: numbers, strings,
containers, arrays, a model's configuration and predictions, a function's
answers. They never look into the namespace of the notebook, so that a grade
cell can be judged in a process of its own.

An expected value may be *sealed* (:func:`sealed`): the check then knows a
right answer when it sees one, but a reader of the notebook cannot read it off.
"""

from firstcnn.check.arrays import array
from firstcnn.check.functions import call, function
from firstcnn.check.models import accuracy, compiled, history, layer, model, outputs
from firstcnn.check.outcome import CheckFailed, NotAnswered, missing, that
from firstcnn.check.values import choice, choices, number, seal, sealed, shape

__all__ = [
    "CheckFailed",
    "NotAnswered",
    "accuracy",
    "array",
    "call",
    "choice",
    "choices",
    "compiled",
    "function",
    "history",
    "layer",
    "missing",
    "model",
    "number",
    "outputs",
    "seal",
    "sealed",
    "shape",
    "that",
]
