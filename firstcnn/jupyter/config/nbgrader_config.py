"""nbgrader's settings where students work: Validate gives a cell as much time as the grader."""

c = get_config()  # noqa: F821 - traitlets defines it

# Seconds; nbgrader's own 30 would be too few where a cell trains on a busy machine.
c.Execute.timeout = 300
# For a kernel to start, in place of 60, for the same reason.
c.Execute.startup_timeout = 300
