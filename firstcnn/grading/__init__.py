"""Grading on nbgrader's own extension points: what instructors need, and students never do."""
