"""Small tools that know nothing of networks or searches: files, limits, registries, YAML, text, validation, versions.

In: plain values. Out: plain values, files written atomically, one-line errors (`nas.errors`).
Used by: every room. To add a helper: put it here only if two rooms need it and it has no concept of theirs.
"""
