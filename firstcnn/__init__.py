"""First CNN: what the course's notebooks and commands import.

Lessons use :mod:`firstcnn.data`, :mod:`firstcnn.check`, :mod:`firstcnn.figures`
and :mod:`firstcnn.handwriting`; :mod:`firstcnn.course` makes the notebooks that
students and instructors get from those in ``source/``.
"""

__version__ = "0.1.0"
