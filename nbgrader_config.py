"""Map nbgrader's folders and steps to the course's. Read by every nbgrader command run here."""

import os

from nbconvert.preprocessors import ClearMetadataPreprocessor, CSSHTMLHeaderPreprocessor
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ComputeChecksums,
    Execute,
    GetGrades,
    IgnorePattern,
    IncludeHeaderFooter,
    LimitOutput,
    LockCells,
    SaveAutoGrades,
    SaveCells,
)

from firstcnn import kernel
from firstcnn.grading.execute import ApartExporter, GradeApart
from firstcnn.preprocessors import (
    ClearAnswers,
    HideTests,
    PlainCode,
    RemoveMarkers,
    StableMetadata,
    StillFigures,
)

c = get_config()  # noqa: F821 - traitlets defines it

c.CourseDirectory.course_id = "first-cnn"
c.CourseDirectory.source_directory = "source"
c.CourseDirectory.release_directory = "course"
c.CourseDirectory.solution_directory = "solutions"
# What running a lesson leaves behind must not be handed out with it.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "*.keras"]

c.ClearSolutions.code_stub = {"python": "...  # your code here"}
c.ClearAnswers.code_stub = c.ClearSolutions.code_stub

# The order is nbgrader's; only the first ClearSolutions is ours.
c.GenerateAssignment.preprocessors = [
    IncludeHeaderFooter,
    LockCells,
    ClearAnswers,
    ClearOutput,
    CheckCellMetadata,
    ComputeChecksums,
    SaveCells,
    ClearHiddenTests,
    ClearMarkScheme,
    ComputeChecksums,
    CheckCellMetadata,
]
c.GenerateSolution.preprocessors = [
    IncludeHeaderFooter,
    LockCells,
    ClearOutput,
    ClearMarkScheme,
    RemoveMarkers,
    Execute,
    StillFigures,
    StableMetadata,
]
# A submission is put in order, its cells run in a sandbox, and its checks elsewhere. The order is
# nbgrader's; ours are GradeApart, in place of Execute, StillFigures and PlainCode.
c.Autograde.exporter_class = ApartExporter
c.Autograde.autograde_preprocessors = [
    GradeApart,
    StillFigures,
    IgnorePattern,
    ClearMetadataPreprocessor,
    LimitOutput,
    PlainCode,
    SaveAutoGrades,
    AssignLatePenalties,
    CheckCellMetadata,
]
# Formgrader's pages would undo PlainCode in cells such as those that begin with %%bash.
c.HighlightMagicsPreprocessor.enabled = False
# Students see of a check what they had been given. Formgrader shows an instructor all of it.
c.GenerateFeedback.preprocessors = [GetGrades, HideTests, CSSHTMLHeaderPreprocessor]

# Seconds for one cell. nbgrader's own 30 would be too few where a cell trains on a busy machine.
c.Execute.timeout = 300
# Seconds for a kernel to start, in place of 60, for the same reason.
c.Execute.startup_timeout = 300
# And from a cell's reply to the end of what it shows, in place of 4, after which nbgrader stops.
c.Execute.iopub_timeout = 300
c.GradeApart.timeout = 300
c.Execute.record_timing = False

# Kernels that nbgrader starts are the course's: quiet, and with MNIST from a local copy.
paths = os.environ.get("JUPYTER_PATH", "").split(os.pathsep)
if kernel.jupyter_path() not in paths:
    os.environ["JUPYTER_PATH"] = os.pathsep.join([kernel.jupyter_path(), *filter(None, paths)])
