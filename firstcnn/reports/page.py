"""The report as one page of HTML that needs nothing else: no script, no font, no other file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from html import escape
from pathlib import Path

from firstcnn.reports import charts
from firstcnn.reports.statistics import FEWEST, Summary
from firstcnn.reports.survey import ExerciseSurvey, LessonSurvey, Survey
from firstcnn.reports.tables import number

__all__ = ["page"]

#: Messages shown for an exercise; the table of messages has all.
_MOST_MESSAGES = 4
#: Below this, an exercise says little of who does well in the others.
_LITTLE = 0.2

_CSS = Path(__file__).with_name("page.css")


def page(survey: Survey, made: datetime) -> str:
    """Return the page.

    Whatever comes from students, their names and what messages quote, is escaped.

    Parameters
    ----------
    survey : Survey
        The class.
    made : datetime.datetime
        When.
    """
    body = "\n".join([*_head(survey, made), *(_lesson(one) for one in survey.lessons), _legend()])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>Report on a class</title>\n<style>\n{_CSS.read_text(encoding='utf-8')}</style>\n"
        f"</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(survey: Survey, made: datetime) -> Iterator[str]:
    yield "<h1>Report on a class</h1>"
    lessons = _several(len(survey.lessons), "lesson")
    students = _several(len(survey.group.students), "student")
    yield f"<p>{lessons}, {students}. Made on {made:%d %B %Y at %H:%M}.</p>"
    rows = (
        (
            f'<a href="#{_anchor(one)}">{escape(one.lesson.name)}</a>',
            str(len(one.lesson.submissions)),
            str(len(one.missing)),
            _median(one),
            str(len(one.waiting)),
            str(len(list(_odd(one)))),
        )
        for one in survey.lessons
    )
    names = ("Lesson", "Graded", "Missing", "Median", "Waiting", "To look at")
    yield _table(names, rows, numbers=range(1, 6), wide=[4])


def _median(one: LessonSurvey) -> str:
    return f"{number(one.scores.median)} of {number(one.lesson.possible)}" if one.scores else ""


# ---- one lesson ----------------------------------------------------------------------------------


def _lesson(one: LessonSurvey) -> str:
    lesson = one.lesson
    parts = [f'<section id="{_anchor(one)}">', f"<h2>{escape(lesson.name)}</h2>"]
    parts += [_facts(one)]
    if lesson.ungraded:
        names = ", ".join(escape(student.id) for student in lesson.ungraded)
        parts.append(
            f'<p class="note">Handed in, and not graded to the end: {names}. '
            f"Run <code>nbgrader autograde {escape(lesson.name)}</code> again.</p>"
        )
    unread = sum(not trace.found for trace in one.traces.values())
    if unread:
        parts.append(
            f'<p class="note">The autograded notebooks of {_several(unread, "submission")} are not '
            "there: their messages, times and flags are missing below.</p>"
        )
    if one.scores and one.histogram:
        parts.append("<h3>Scores</h3>")
        parts.append(charts.histogram(one.histogram, lesson.possible, one.scores))
        if any(submission.penalty for submission in lesson.submissions):
            parts.append("<p>Points taken off for being late are taken off here.</p>")
    parts += ["<h3>Exercises</h3>", _exercises(one), "<h3>What failing checks said</h3>"]
    parts += list(_messages(one.exercises)) or ["<p>Nothing: no check has failed.</p>"]
    parts += ["<h3>Submissions to look at</h3>", _odd_table(one)]
    return "\n".join([*parts, "</section>"])


def _facts(one: LessonSurvey) -> str:
    facts = {"Graded": str(len(one.lesson.submissions)), "Nothing handed in": str(len(one.missing))}
    if one.scores:
        low, high = number(one.scores.lower_quartile), number(one.scores.upper_quartile)
        facts["Median"] = _median(one)
        facts["Quartiles"] = f"{low} and {high}"
        facts["Mean"] = number(one.scores.mean)
    facts["Time"] = _measured(one.seconds, "s")
    facts["Memory"] = _measured(one.memory, "MiB")
    if one.waiting:
        facts["Waiting for a person"] = str(len(one.waiting))
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{listed}</dl>'


def _measured(values: Summary | None, unit: str) -> str:
    if values is None:
        return "not measured"
    digits = 1 if values.median < 10 else 0
    return f"{number(values.median, digits)} {unit}, at most {number(values.highest, digits)}"


def _exercises(one: LessonSurvey) -> str:
    rows = []
    for each in one.exercises:
        share, tells = each.difficulty, each.discrimination
        earned = "not defined" if share is None else f"{share:.0%}{charts.bar(share)}"
        if tells is None:
            told = '<span class="quiet">not defined</span>'
        else:
            told = f"{tells:.2f}".replace("-", "\N{MINUS SIGN}")
            told = f'<span class="weak">{told}</span>' if tells < _LITTLE else told
        title = f"<strong>{escape(each.exercise.title)}</strong>"
        if each.exercise.title != each.exercise.name:
            title += f' <span class="quiet wide">{escape(each.exercise.name)}</span>'
        points = number(each.exercise.possible)
        rows.append((title, points, earned, f"{each.full}", f"{each.none}", told))
    names = ("Exercise", "Points", "Earned", "All", "None", "Discrimi&shy;nation")
    return _table(names, rows, numbers=range(1, 6), wide=(3, 4))


def _messages(exercises: Iterable[ExerciseSurvey]) -> Iterator[str]:
    for each in exercises:
        if not each.messages:
            continue
        yield f"<h4>{escape(each.exercise.title)}</h4>"
        lines = [
            f'<li><span class="count">{group.students} ×</span>'  # noqa: RUF001
            f'<span class="words">{escape(group.example)}</span></li>'
            for group in each.messages[:_MOST_MESSAGES]
        ]
        more = len(each.messages) - _MOST_MESSAGES
        if more > 0:
            lines.append(
                '<li class="quiet"><span></span>'
                f"<span>and {more} more in <code>messages.csv</code></span></li>"
            )
        yield f'<ul class="said">{"".join(lines)}</ul>'


def _odd_table(one: LessonSurvey) -> str:
    rows = [
        (escape(name), number(score), f'<div class="words">{escape(words)}</div>')
        for name, score, words in _odd(one)
    ]
    if not rows:
        return "<p>None: all were graded as they were handed in.</p>"
    return _table(("Student", "Score", "What happened"), rows, numbers=[1])


def _odd(one: LessonSurvey) -> Iterator[tuple[str, float, str]]:
    for submission in one.lesson.submissions:
        trace = one.trace(submission)
        lines = [f"Not graded: {reason}" for reason in trace.refusals]
        lines += trace.flags
        if submission.waiting:
            lines.append(f"Waiting for a person's grade: {', '.join(submission.waiting)}.")
        lines += [f"Put in order: {line}" for line in trace.repairs]
        if lines:
            student = submission.student
            name = student.id if student.name == student.id else f"{student.name} ({student.id})"
            yield name, submission.score, "\n".join(lines)


# ---- words and tables ----------------------------------------------------------------------------


def _legend() -> str:
    return (
        "<section><h2>How to read this</h2>"
        "<p><strong>Scores</strong>: the thin line above the bars goes from the lower to the upper "
        "quartile, the mark on it is the median.</p>"
        "<p><strong>Earned</strong>: the share of an exercise's points that were earned. "
        "<strong>All</strong> and <strong>None</strong>: how many students have all of its points, "
        "and none.</p>"
        "<p><strong>Discrimination</strong>: the correlation of an exercise's points with those of "
        "all other exercises of the lesson. Near 0, or below, those who do well elsewhere do no "
        "better here: look whether the text misleads, or a check refuses what is right. What is "
        f"below {_LITTLE} is in bold. It is not "
        f"defined for fewer than {FEWEST} submissions, or where all have the same points; with "
        "few more, it is rough.</p>"
        "<p><strong>What failing checks said</strong>: messages that differ only in numbers, names "
        "and values are counted together, by students; one of them is shown.</p>"
        "<p><strong>Time and memory</strong>: the median, and the most, of running a submission's "
        "cells and checks, and of the student's kernel at its largest.</p></section>"
    )


def _table(
    names: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    numbers: Collection[int],
    wide: Collection[int] = (),
) -> str:
    """Return a table of markup; columns are numbers, and left out on phones, by their place."""

    def kind(column: int) -> str:
        kinds = ["n"] * (column in numbers) + ["wide"] * (column in wide)
        return f' class="{" ".join(kinds)}"' if kinds else ""

    head = "".join(f'<th scope="col"{kind(i)}>{name}</th>' for i, name in enumerate(names))
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td{kind(i)}>{value}</td>" for i, value in enumerate(rest, start=1))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _anchor(one: LessonSurvey) -> str:
    return escape("lesson-" + "-".join(one.lesson.name.split()), quote=True)


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
