"""What libraries say of a failure is quoted in one line: no escapes, no pages of text."""

from __future__ import annotations

import pytest

from nas.errors import reason_of

TORCH = (
    "Weights only load failed. This file can still be loaded, to do so you have two options, \x1b[1mdo those steps only if you "
    "trust the source of the checkpoint\x1b[0m. \n\t(1) Re-running `torch.load` with `weights_only` set to `False` will "
    "likely succeed\n\tWeightsUnpickler error: \n\nCan only append to lists\n\nCheck the documentation of torch.load"
)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("plain", "plain"),
        ("two\n\tlines\r\nand more", "two lines and more"),
        ("\x1b[1;31mred\x1b[0m, \x1b]8;;http://x\x07link\x1b]8;;\x1b\\ and \x1b(Bcharset", "red, link and charset"),
        ("a\x00b\x07c\x9b31md", "abc31md"),
        ("lone \x1b", "lone"),
        (TORCH, "Can only append to lists Check the documentation of torch.load"),
        (f"RuntimeError: {TORCH}", "RuntimeError: Can only append to lists Check the documentation of torch.load"),
        ("", "no reason given"),
        (KeyError(), "KeyError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_a_reason_is_one_clean_line(said, line):
    assert reason_of(said) == line


def test_a_reason_is_bounded():
    assert reason_of("x" * 10_000_000, 50) == "x" * 46 + " ..."
    assert reason_of("x" * 50, 50) == "x" * 50


def test_the_first_line_is_the_first_that_says_something():
    assert reason_of("\n \nCUDA error: illegal access\nadvice", first_line=True) == "CUDA error: illegal access"
