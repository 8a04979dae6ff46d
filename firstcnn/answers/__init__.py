"""The answer bank: right and wrong answers to every exercise, and the proof that each is graded so.

`bank` reads ``tests/answers/``; `rounds` puts the answers into notebooks; `trial` has nbgrader
grade these and compares; `mutants` weakens the checks, to see whether the bank would notice;
`exercises` writes ``docs/exercises.md`` from all of it.
"""
