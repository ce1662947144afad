"""The command line: `nas COMMAND`. It reads options, calls the rooms above, prints results and sets exit codes.

In: arguments. Out: the requested output on stdout, all other messages on stderr; exit code 0 done, 1 failed, 2 wrong usage,
130 interrupted. Used by: people and scripts. To add a command: one file in `commands/` and its line in `main.py`.
"""
