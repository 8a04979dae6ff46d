"""What nbgrader's steps lack, as nbconvert preprocessors.

``nbgrader_config.py`` puts these into nbgrader's own lists, so its commands, its
formgrader page and ``firstcnn build`` all make the same notebooks and pages.
"""

from __future__ import annotations

import re

from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions, NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution


class ClearAnswers(ClearSolutions):
    """nbgrader's ClearSolutions, with a stub that the instructor may choose for each region.

    What stands behind a colon on the opening line is what students get::

        ### BEGIN SOLUTION: n_weights = ...; n_outputs = ...
        n_weights = 784 * 128
        n_outputs = 128
        ### END SOLUTION

    becomes two lines of dots to replace. A region without a stub becomes
    ``ClearSolutions.code_stub``. Dots rather than an error let a student run a
    notebook from top to bottom and meet only the checks.
    """

    def _replace_solution_region(self, cell, language):
        opening = re.compile(rf"^(\s*)#+ *{self.begin_solution_delimeter}: *(.*)$")
        stubs: dict[str, str] = {}
        lines = []
        for line in cell.source.split("\n"):
            match = opening.match(line) if cell.cell_type == "code" else None
            if match:
                marker = f"### firstcnn stub {len(stubs)} ###"
                indent, stub = match.groups()
                stubs[marker] = "\n".join(indent + part.strip() for part in stub.split(";"))
                lines += [marker, indent + f"### {self.begin_solution_delimeter}"]
            else:
                lines.append(line)
        cell.source = "\n".join(lines)
        default = self.code_stub
        replaced = super()._replace_solution_region(cell, language)
        for marker, stub in stubs.items():
            # The region right behind a marker was replaced by the default stub: drop that.
            at = cell.source.index(marker)
            rest = cell.source[at + len(marker) + 1 :].split("\n")
            rest = rest[len(default[language].split("\n")) :]
            cell.source = cell.source[:at] + "\n".join([stub, *rest])
        return replaced


class HideTests(ClearHiddenTests):
    """nbgrader's ClearHiddenTests for feedback: grade cells are shown as they were handed out.

    Other cells are the student's, and their text may be anything, the markers of a hidden test
    too, at which nbgrader's own would stop.
    """

    def preprocess_cell(self, cell, resources, index):
        """Take the hidden tests out of a grade cell."""
        if is_grade(cell) and not is_solution(cell):
            return super().preprocess_cell(cell, resources, index)
        return cell, resources


class RemoveMarkers(NbGraderPreprocessor):
    """Take the lines that mark solutions and hidden tests out of a solved notebook."""

    _marker = re.compile(r"^\s*#+ *(BEGIN|END) (SOLUTION|HIDDEN TESTS)\b.*\n?", re.MULTILINE)

    def preprocess_cell(self, cell, resources, index):
        """Remove the marker lines of one code cell."""
        if cell.cell_type == "code":
            cell.source = self._marker.sub("", cell.source).rstrip("\n")
        return cell, resources


class StableMetadata(NbGraderPreprocessor):
    """Leave out what differs from run to run and machine to machine."""

    def preprocess(self, nb, resources):
        """Keep the language's name, and drop its version and the times of execution.

        What a cell prints comes in pieces, and in more of them from a machine that is busy.
        """
        nb.metadata["language_info"] = {"name": "python"}
        for cell in nb.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs = self._joined(cell.outputs)
        return nb, resources

    @staticmethod
    def _joined(outputs):
        """Put pieces of one text together that follow each other."""
        joined = []
        for one in outputs:
            is_text = joined and one.output_type == joined[-1].output_type == "stream"
            if is_text and one.name == joined[-1].name:
                joined[-1].text += one.text
            else:
                joined.append(one)
        return joined


class StillFigures(NbGraderPreprocessor):
    """Leave out the controls of figures that move, which live only as long as their kernel.

    Each has a still picture behind it, in an output of its own. Left in, the controls
    would be an error message in JupyterLab, and a script from another host on a web page.
    """

    _controls = "application/vnd.jupyter.widget-view+json"

    def preprocess(self, nb, resources):
        """Drop the outputs that are controls, and the notebook's record of their state."""
        nb.metadata.pop("widgets", None)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs = [one for one in cell.outputs if self._is_still(one)]
        return nb, resources

    def _is_still(self, output):
        """Take the controls out of an output; tell whether there is anything else to see in it."""
        data = output.get("data", {})
        return data.pop(self._controls, None) is None or bool(data)


class PlainCode(NbGraderPreprocessor):
    """Have code that is far longer than any lesson asks for shown without colours.

    What looks for the words of a language can take the square of a cell's length: hours, for a
    hundred thousand empty lines.
    """

    longest, most = 10_000, 100_000  # characters: of a cell, and of a notebook
    _gap = re.compile(r"\s{200}")

    def preprocess(self, nb, resources):
        """Mark such cells as nbconvert marks those of other languages."""
        left = self.most
        for cell in nb.cells:
            if cell.cell_type == "code":
                size = len(cell.source)
                if size > min(self.longest, left) or self._gap.search(cell.source):
                    cell.metadata["magics_language"] = "text"
                else:
                    left -= size
        return nb, resources
