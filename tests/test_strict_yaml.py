"""Hostile and surprising YAML is refused quickly, with one sentence."""
import math
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcycle.config import load_config
from mmcycle.errors import UserError
from mmcycle.strict_yaml import MAX_BYTES, format_yaml, parse_yaml, read_yaml

HOSTILE = {
    "billion laughs": ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]", "x.yaml:1: anchors and aliases"),
    "an alias alone": ("b: 1\na: *b", "x.yaml:2: anchors and aliases"),
    "deep lists": ("a: " + "[" * 60_000, "nested more than 20 levels deep"),
    "deep mappings": ("{a: " * 15_000, "nested more than 20 levels deep"),
    "deep blocks": ("- " * 30_000, "nested more than 20 levels deep"),
    "deep keys": ("? " * 30_000, "nested more than 20 levels deep"),
    "a python call": ("a: 1\nb: !!python/object/apply:os.system ['true']", "x.yaml:2: tags are not allowed"),
    "a python name": ("!<tag:yaml.org,2002:python/name:os.system> a", "tags are not allowed"),
    "a plain tag": ("a: !!int '3'", "tags are not allowed"),
    "an empty tag": ("a: ! x", "tags are not allowed"),
    "a tag handle": ("%TAG ! tag:x,2026:\n---\na: !y 1", "tags are not allowed"),
    "another version": ("%YAML 9.9\n---\na: 1", "incompatible YAML document"),
    "a key twice": ("a: 1\nb: 2\na: 3", "x.yaml:3: the key 'a' is given twice, first in line 1"),
    "a key twice, inside": ("a: {b: 1, b: 2}", "the key 'b' is given twice"),
    "a merge key": ("a: {<<: {b: 1}}", "merge keys (<<) are not allowed"),
    "a second document": ("a: 1\n---\nb: 2", "expected a single document"),
    "a number as key": ("1: 2", "a key must be text, found '1'"),
    "null as key": ("~: 2", "a key must be text, found '~'"),
    "a list as key": ("[a]: 2", "a key must be text, found a list or a mapping"),
    "a long number": ("a: " + "1" * 60_000, "the number 11111111111111111111... is too long"),
    "NUL": ("a: b\0", "not YAML text"),
    "NUL escaped": ('a: "b\\0"', "text must not contain NUL or half a surrogate pair"),
    "half a pair": ('a: "\\ud800"', "text must not contain NUL or half a surrogate pair"),
    "no such letter": ('a: "\\U7fffffff"', "not YAML text"),
    "a tab": ("a:\n\tb: 1", "x.yaml:2: while scanning for the next token"),
    "no end": ("a: 1\nb: [1", "expected ',' or ']'"),
    "an open quote": ('a: "' + "x" * 60_000, "unexpected end of stream"),
    "a list at the top": ("- a\n- b", "expected `key: value` lines at the top level, found a list"),
    "a word at the top": ("hello", "expected `key: value` lines at the top level, found a single value"),
    "nothing": ("", "expected `key: value` lines at the top level, found nothing"),
    "comments alone": ("# a\n" * 1000, "expected `key: value` lines at the top level, found nothing"),
    "many keys": ("\n".join(f"key{i}: 1" for i in range(5000)), "5003 problems"),
    "too large": ("#" * (MAX_BYTES + 1), "is larger than 64 KiB"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_is_refused_within_seconds(tmp_path, case):
    text, problem = HOSTILE[case]
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode())
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 6000
    assert time.process_time() - start < 5


def test_what_is_not_a_text_file_is_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\x89PNG\r\n\xff\xfe")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name, problem in {
        "binary.yaml": "is not UTF-8 text \\(byte 0\\)",
        "pipe.yaml": "is not a regular file",
        "none.yaml": "does not exist",
        "loop.yaml": "does not exist|cannot be read",
        ".": "is a folder",
        "a\0b.yaml": "does not exist|cannot be read",
        "n" * 5000 + ".yaml": "does not exist|cannot be read",
    }.items():
        with pytest.raises(UserError, match=problem):
            read_yaml(tmp_path / name)


def test_scalars_are_read_as_a_person_means_them():
    text = """\
floats: [5e-4, 1.5e3, .5, 1., -2.0e-30, 1e400]
wholes: [2e5, 1E3, -2e2, +3, 1_000, 010]
truths: [true, False]
nothing: [null, ~, ]
words: [yes, on, off, No, 0x10, 1:30, 2026-01-01, 1e, "5", 'true', 1.2.3, '']
"""
    values, lines = parse_yaml(text, "x")
    assert values["floats"] == [0.0005, 1500.0, 0.5, 1.0, -2.0e-30, math.inf]
    assert all(isinstance(number, float) for number in values["floats"])
    assert values["wholes"] == [200000, 1000, -200, 3, 1000, 10]
    assert all(isinstance(number, int) for number in values["wholes"])
    assert values["truths"] == [True, False]
    assert values["nothing"] == [None, None]
    assert values["words"] == ["yes", "on", "off", "No", "0x10", "1:30", "2026-01-01", "1e", "5", "true", "1.2.3", ""]
    assert lines[("words",)] == 5 and lines[("words", "2")] == 5


def test_every_key_knows_its_line():
    _, lines = parse_yaml("a:\n  b: 1\n  c:\n    - x\n    - y\n", "x")
    assert lines == {(): 1, ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", "0"): 4, ("a", "c", "1"): 5}


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "x.yaml")[0] == {"a": 1}


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
LEAF = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | TEXT
WORDS = st.sampled_from("5e-4 on true null ~ 1_0 010 .inf 2026-01-01 << = 1e5 - a: & *x !y".split())
VALUE = st.recursive(
    LEAF | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(TEXT.filter(lambda key: key != "<<"), VALUE, max_size=3))
def test_what_is_written_is_read_back(values):
    assert parse_yaml(format_yaml(values), "x")[0] == values
