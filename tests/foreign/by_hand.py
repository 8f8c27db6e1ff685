"""Pastes the lines that wire/SPEC.md prints into `python -m websockets`, and compares the answers.

usage: by_hand.py URL SPEC.md        the server must allow anonymous users, and nothing was said on it yet
"""

import re
import subprocess
import sys
import threading

PATIENCE = 20  # time limit of each wait, in seconds, so that a fault does not hang


class Terminal:
    """The interactive client, and its answers."""

    def __init__(self, url):
        command = [sys.executable, "-X", "utf8", "-m", "websockets", url]
        self.client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        self.answers, self.ended, self.news = [], False, threading.Condition()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.client.stdout:
            # Answers are "< " and the message, between codes that move the terminal's cursor.
            found = re.search(r"(?:\x1b\[L|^)< (.*)$", line.rstrip("\n"))
            with self.news:
                if found:
                    self.answers.append(found[1])
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def paste(self, line):
        print(line)
        self.client.stdin.write(line + "\n")
        self.client.stdin.flush()

    def expect(self, patterns):
        """Waits for an answer to each pattern, in any order."""
        found = []
        for pattern in patterns:
            matches = lambda: next((a for a in self.answers if as_regex(pattern).fullmatch(a)), None)
            with self.news:
                if not self.news.wait_for(lambda: matches() or self.ended, PATIENCE) or not matches():
                    fail(f"expected  {pattern}\n  got       {self.answers}")
                answer = matches()
                self.answers.remove(answer)
            print(f"  ok  < {answer}")
            found.append(answer)
        return found

    def leave(self):
        """Closes the input, as Ctrl-D does."""
        self.client.stdin.close()
        if self.client.wait(PATIENCE) != 0:
            fail(f"the client ended with {self.client.returncode}")
        if self.answers:
            fail(f"answers that are not in the SPEC: {self.answers}")


def as_regex(pattern):
    return re.compile(".*?".join(re.escape(part) for part in pattern.split("…")))


def fail(words):
    print(f"  WRONG {words}")
    sys.exit(1)


def conversations(spec):
    """The blocks that begin with a hello: lists of (line to paste, patterns of its answers)."""
    with open(spec, encoding="utf-8") as file:
        blocks = re.findall(r"^```text\n(\{\"t\":\"hello\".*?)^```", file.read(), re.DOTALL | re.MULTILINE)
    for block in blocks:
        steps = []
        for line in block.splitlines():
            if line.startswith("< "):
                steps[-1][1].append(line[2:])
            else:
                steps.append((line, []))
        yield steps


def field(name, answer):
    return re.search(rf'"{name}":"([^"]*)"', answer)[1]


def main(url, spec):
    first, again = conversations(spec)
    terminal, answers = Terminal(url), []
    for line, patterns in first:
        terminal.paste(line)
        answers += terminal.expect(patterns)
    terminal.leave()
    if len(answers) < len(first):
        fail("the SPEC does not have an answer to each line")

    print("\n# the reconnect")
    known = {"SESSION": field("session", answers[0]), "SECRET": field("secret", answers[0])}
    known["EPOCH"] = field("epoch", answers[1])
    expected = ['{"t":"ok",…"resumed":true,…}', '{"t":"ok",…"rooms":[{…"status":"ok",…"cursor":2,"head":2}]…}', "{…snapshot…kettle…}"]
    terminal = Terminal(url)
    for (line, _), pattern in zip(again, expected):
        for name, value in known.items():
            line = line.replace(name, value)
        terminal.paste(line)
        terminal.expect([pattern])
    terminal.expect(expected[len(again):])
    terminal.leave()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
