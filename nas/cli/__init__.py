"""The command line: `nas COMMAND`. Options in, calls into the rooms above, words and exit codes out.

In: arguments. Out: lines on stdout (what was asked for) and stderr (the rest); exit code 0 done, 1 failed, 2 wrong usage, 130
interrupted. Used by: people and scripts. To add a command: one file in `commands/` and its line in `main.py`.
"""
