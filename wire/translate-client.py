#!/usr/bin/env python3
"""Translates a client for the old words of the protocol into the new ones of renames.json.

usage: translate-client.py FOLDER COPY [RENAMES]

COPY is a new folder: FOLDER with its source files rewritten, every other file copied. RENAMES is
renames.json beside this script by default. FOLDER is not changed.

Sources are read as string literals, comments and the rest; only literals change:

| in a literal | example | becomes |
|---|---|---|
| it is an old kind, field or value as a whole | `"sub"` | `"subscribe"` |
| JSON text in it, or a JSON file: a value of `t` | `{"t":"sub","id":1}` | `{"t":"subscribe","id":1}` |
| JSON text in it, or a JSON file: a field's name | `{"repeated":true}` | `{"duplicate":true}` |
| JSON text in it, or a JSON file: a value of a listed field | `{"kind":"inbox"}` | `{"kind":"own"}` |
| a field's name in a Go struct tag | `json:"repeated"` | `json:"duplicate"` |
| the name of a scenario | `"repeats_and_a_hole.json"` | `"redelivery_and_a_gap.json"` |

A whole literal after another key than the one listed (`"text": "bye"`) is not changed. Code outside
of literals, such as `ack.repeated` in JavaScript, is not changed either: such lines are printed as
`look at`. Every change is printed with file and line. Review them: a word such as "set" may have
another meaning in your program. Exit status 1: the arguments are wrong.
"""

import json
import os
import re
import shutil
import sys

SLASHES = ".go .js .mjs .cjs .ts .tsx .jsx .rs .java .kt .kts .scala .swift .dart .c .h .cc .cpp .hpp .cs .php .zig".split()
HASHES = ".py .rb .sh .ex .exs .cr .pl .lua .nim".split()

LITERAL = r'''
    r(?P<raw>\#*)"(?P<r>.*?)"(?P=raw)       # Rust
  | """(?P<d3>.*?)""" | \'\'\'(?P<s3>.*?)\'\'\'
  | "(?P<d>(?:\\.|[^"\\\n])*)" | '(?P<s>(?:\\.|[^'\\\n])*)' | `(?P<b>(?:\\.|[^`\\])*)`
'''
TOKENS = {
    "slashes": re.compile(r"(?P<comment>//[^\n]*|/\*.*?\*/) |" + LITERAL, re.X | re.S),
    "hashes": re.compile(r"(?P<comment>\#[^\n]*) |" + LITERAL, re.X | re.S),
}
# The key of a map before a value, at the end of the text so far: `{"t": `, `, t: `, `"t" => `, and no `? a : `.
KEY = re.compile(r"""(?:^|[{,(\n])\s*["'`]?([A-Za-z_]\w*)["'`]?\s*(?::|=>)\s*$""")
QUOTE = r'(\\*")'  # in a literal the quotes of JSON text may be escaped


class Words:
    """The rewriting rules of renames.json."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            table = json.load(file)
        self.kinds = table["kinds"]
        self.fields = {field["old"]: field["new"] for field in table["fields"]}
        self.values = {value["old"]: (value["field"], value["new"]) for value in table["values"]}
        self.scenarios = table["scenarios"]

    def whole(self, word, key):
        """The new word for a literal that is `word` alone, after the map's key `key` if there is one."""
        if word in self.kinds and key in (None, "t"):
            return self.kinds[word]
        if word in self.fields and key is None:
            return self.fields[word]
        if word in self.values and key in (None, self.values[word][0]):
            return self.values[word][1]
        return word

    def within(self, text):
        """Rewrites text that may contain JSON."""
        for old, new in self.kinds.items():
            text = self.member(text, "t", old, new)
        for old, (field, new) in self.values.items():
            text = self.member(text, field, old, new)
        for old, new in self.fields.items():
            text = re.sub(rf"{QUOTE}{old}{QUOTE}(?=\s*:)", rf"\g<1>{new}\g<2>", text)
            text = re.sub(rf'\bjson:"{old}(?=[",])', f'json:"{new}', text)
        for old, new in self.scenarios.items():
            text = re.sub(rf"\b{old}\b", new, text)
        return text

    @staticmethod
    def member(text, field, old, new):
        """`"field": "old"` becomes `"field": "new"`."""
        return re.sub(rf"({QUOTE}{field}{QUOTE}\s*:\s*{QUOTE}){old}{QUOTE}", rf"\g<1>{new}\g<5>", text)


def translate(text, extension, words):
    """The text with its literals rewritten, the lines that changed, and the lines to review by hand."""
    if extension == ".json":
        return words.within(text), []
    tokens = TOKENS["slashes" if extension in SLASHES else "hashes"]
    pieces, at, look = [], 0, []

    def code(piece):
        for found in re.finditer(rf"(?:\.|->)({'|'.join(words.fields)})\b", piece):
            look.append(text.count("\n", 0, at + found.start()) + 1)
        pieces.append(piece)

    for token in tokens.finditer(text):
        code(text[at : token.start()])
        at = token.end()
        literal = next((part for part in ("r", "d3", "s3", "d", "s", "b") if token[part] is not None), None)
        if literal is None:
            pieces.append(token[0])
            continue
        before = KEY.search(text, max(0, token.start() - 80), token.start())
        new = words.whole(token[literal], before and before[1])
        new = words.within(new) if new == token[literal] else new
        start, end = (place - token.start() for place in token.span(literal))
        pieces.append(token[0][:start] + new + token[0][end:])
    code(text[at:])
    return "".join(pieces), look


def main(folder, copy, renames=os.path.join(os.path.dirname(os.path.abspath(__file__)), "renames.json")):
    words = Words(renames)
    shutil.copytree(folder, copy)
    for root, _, names in os.walk(copy):
        for path in sorted(os.path.join(root, name) for name in names):
            extension = os.path.splitext(path)[1]
            if extension not in [".json", *SLASHES, *HASHES] or os.path.islink(path):
                continue
            with open(path, encoding="utf-8", newline="") as file:
                old = file.read()
            new, look = translate(old, extension, words)
            shown = os.path.relpath(path, copy)
            for line, (was, now) in enumerate(zip(old.split("\n"), new.split("\n")), 1):
                if was != now:
                    print(f"{shown}:{line}: {now.strip()}")
            for line in look:
                print(f"{shown}:{line}: look at: {old.splitlines()[line - 1].strip()}")
            if new != old:
                with open(path, "w", encoding="utf-8", newline="") as file:
                    file.write(new)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or not os.path.isdir(sys.argv[1]) or os.path.exists(sys.argv[2]):
        sys.exit(__doc__)
    main(*sys.argv[1:])
