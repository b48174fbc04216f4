"""A shell command taken apart, as far as that can be done without running it.

What it would expand to is not known: a word that holds an expansion says so (``hides``), and what stands in ``$(…)``,
backticks and ``<(…)`` is handed out as text, to be taken apart in turn.
"""

import codecs
import re
from dataclasses import dataclass, field

SEPARATORS = frozenset({";", ";;", ";&", ";;&", "&", "&&", "||", "(", ")", "\n"})
OPERATOR = re.compile(r"&>>|&>|<<<|<<-|<<|<>|<&|<|>>|>\||>&|>|&&|&|\|\||\|&|\||;;&|;;|;&|;|\(|\)|\n")
WRITING = frozenset({">", ">>", ">|", ">&", "&>", "&>>", "<>"})
BLANKS = " \t\r\v\f"
BREAKS = BLANKS + "\n;&|()<>"
KEYWORDS = frozenset({"if", "then", "elif", "else", "fi", "while", "until", "do", "done", "esac", "{", "}", "!"})
"""After these a command begins."""
LISTS = frozenset({"for", "select", "case"})
"""After these come names and values, up to the next separator."""
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\[[^]]*\])?\+?=")

DEEPEST = 20
"""Quotes within expansions within quotes."""


class Unreadable(Exception):
    """It cannot be taken apart: a quote or a parenthesis that nothing closes."""


@dataclass(frozen=True)
class Word:
    text: str
    """Without its quotes; expansions as they are written."""
    hides: bool = False
    """It holds an expansion."""
    is_pattern: bool = False
    """It holds ``*``, ``?`` or ``[`` that the shell would expand."""
    is_quoted: bool = False


@dataclass(frozen=True)
class Command:
    """A program and its arguments."""

    words: tuple[Word, ...] = ()
    assignments: tuple[Word, ...] = ()
    """Those before the program."""
    writes: tuple[Word, ...] = ()
    """Files that its output is sent to."""
    reads: tuple[Word, ...] = ()
    stdin: str | None = None
    """The text of a here-document."""


@dataclass(frozen=True)
class Script:
    pipelines: tuple[tuple[Command, ...], ...]
    nested: tuple[str, ...]
    """The commands in its substitutions."""


def parse(text: str) -> Script:
    """*text* taken apart.

    Raises:
        Unreadable: that is not possible.
    """
    lexer = _Lexer(text)
    tokens = lexer.tokens()
    pipelines: list[tuple[Command, ...]] = []
    pipeline: list[Command] = []
    draft = _Draft()
    for at, (operator, word) in enumerate(tokens):
        if word is not None:
            draft.take(word)
        elif operator in SEPARATORS:
            pipelines.append((*pipeline, draft.command()))
            pipeline, draft = [], _Draft()
        elif operator in ("|", "|&"):
            pipeline.append(draft.command())
            draft = _Draft()
        elif at + 1 == len(tokens) or tokens[at + 1][1] is None:
            raise Unreadable(f"nothing follows {operator}")
        else:
            draft.redirect = operator
            draft.body = lexer.bodies.get(at)
    pipelines.append((*pipeline, draft.command()))
    full = tuple(p for p in pipelines if any(c != Command() for c in p))
    return Script(full, tuple(lexer.nested))


@dataclass
class _Draft:
    """A command while its words come in."""

    words: list[Word] = field(default_factory=list[Word])
    assignments: list[Word] = field(default_factory=list[Word])
    writes: list[Word] = field(default_factory=list[Word])
    reads: list[Word] = field(default_factory=list[Word])
    stdin: str | None = None
    redirect: str = ""
    """The operator whose file comes next."""
    body: str | None = None
    is_list: bool = False
    is_name: bool = False
    """The next word is the name of a function."""

    def take(self, word: Word) -> None:
        bare = not (word.is_quoted or word.hides)
        if self.redirect:
            self._redirected(word)
        elif self.words or self.is_list:
            if not self.is_list:
                self.words.append(word)
        elif self.is_name:
            self.is_name = False
        elif bare and word.text in LISTS:
            self.is_list = True
        elif bare and word.text == "function":
            self.is_name = True
        elif bare and word.text in KEYWORDS:
            pass
        elif ASSIGNMENT.match(word.text):
            self.assignments.append(word)
        else:
            self.words.append(word)

    def _redirected(self, word: Word) -> None:
        operator, self.redirect = self.redirect, ""
        if operator == "<<<":
            self.stdin = word.text
        elif operator.startswith("<<"):
            self.stdin = self.body or ""
        elif operator in WRITING:
            self.writes.append(word)
        else:
            self.reads.append(word)

    def command(self) -> Command:
        return Command(tuple(self.words), tuple(self.assignments), tuple(self.writes), tuple(self.reads), self.stdin)


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.nested: list[str] = []
        self.bodies: dict[int, str] = {}
        """Position of a ``<<`` among the tokens → its here-document."""

    def tokens(self) -> list[tuple[str, Word | None]]:
        found: list[tuple[str, Word | None]] = []
        waiting: list[int] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in BLANKS:
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self.at += 2
            elif char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char in "<>" and self.text.startswith("(", self.at + 1):
                self.nested.append(self._parenthesis(self.at + 1))
                found.append(("", Word(char + "(…)", hides=True)))
            elif match := OPERATOR.match(self.text, self.at):
                self.at = match.end()
                found.append((match[0], None))
                if match[0] in ("<<", "<<-"):
                    waiting.append(len(found) - 1)
                if match[0] == "\n":
                    for start in waiting:
                        self.bodies[start] = self._body(found, start)
                    waiting = []
            else:
                word = self._word()
                if not (word.text.isdigit() and not word.is_quoted and self.text[self.at : self.at + 1] in ("<", ">")):
                    found.append(("", word))
        return found

    def _word(self) -> Word:
        out: list[str] = []
        hides = pattern = quoted = False
        brace = comma = False
        while self.at < len(self.text) and (char := self.text[self.at]) not in BREAKS:
            if char == "\\":
                following = self.text[self.at + 1 : self.at + 2]
                out.append("" if following == "\n" else following)
                quoted = quoted or following != "\n"
                self.at += 2
            elif char == "'":
                end = self._find("'", self.at + 1)
                out.append(self.text[self.at + 1 : end])
                self.at, quoted = end + 1, True
            elif char == '"':
                self.at += 1
                piece, expands = self._double('"')
                out.append(piece)
                quoted, hides = True, hides or expands
            elif char == "$" and self.text.startswith("$'", self.at):
                out.append(self._ansi())
                quoted = True
            elif char == "$" and self.text.startswith('$"', self.at):
                self.at += 1
            elif char in "$`":
                piece, expands = self._expansion()
                out.append(piece)
                hides = hides or expands
            else:
                pattern = pattern or char in "*?["
                brace = brace or char == "{"
                comma = comma or (brace and (char == "," or self.text.startswith("..", self.at)))
                out.append(char)
                self.at += 1
        return Word("".join(out), hides or (brace and comma), pattern, quoted)

    def _double(self, end: str) -> tuple[str, bool]:
        """What stands in double quotes, up to *end*; empty: up to the end of the text. Does it hold an expansion?"""
        out: list[str] = []
        hides = False
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable("its quotes are nested too deep")
        while not (end and self.text.startswith(end, self.at)):
            if self.at >= len(self.text):
                if end:
                    raise Unreadable(f"a {end} is not closed")
                break
            char = self.text[self.at]
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in ("$", "`", '"', "\\", "\n"):
                out.append(self.text[self.at + 1].replace("\n", ""))
                self.at += 2
            elif char in "$`":
                piece, expands = self._expansion()
                out.append(piece)
                hides = hides or expands
            else:
                out.append(char)
                self.at += 1
        self.at += len(end)
        self.depth -= 1
        return "".join(out), hides

    def _expansion(self) -> tuple[str, bool]:
        """The expansion that starts here, as it is written; ``False``: it is only a dollar."""
        start = self.at
        if self.text[start] == "`":
            end = start + 1
            while (end := self._find("`", end)) and self.text[end - 1] == "\\":
                end += 1
            self.nested.append(self.text[start + 1 : end].replace("\\`", "`"))
            self.at = end + 1
        elif self.text.startswith("$(", start):
            self.nested.append(self._parenthesis(start + 1))
        elif self.text.startswith("${", start):
            self.at = start + 2
            self._double("}")
        elif match := re.compile(r"\$(\w+|[@*#?$!-])").match(self.text, start):
            self.at = match.end()
        else:
            self.at += 1
            return "$", False
        return self.text[start : self.at], True

    def _parenthesis(self, start: int) -> str:
        """What stands between the parenthesis at *start* and the one that closes it."""
        self.at = start + 1
        depth = 1
        while depth:
            char = self.text[self.at : self.at + 1]
            if not char:
                raise Unreadable("a ( is not closed")
            if char == "\\":
                self.at += 2
            elif char == "'":
                self.at = self._find("'", self.at + 1) + 1
            elif char == '"':
                self.at += 1
                inner, self.nested = self.nested, []
                self._double('"')
                self.nested = inner  # it is found again when the text between the parentheses is taken apart
            else:
                depth += (char == "(") - (char == ")")
                self.at += 1
        return self.text[start + 1 : self.at - 1]

    def _ansi(self) -> str:
        end = self.at + 2
        while (end := self._find("'", end)) and (len(self.text[:end]) - len(self.text[:end].rstrip("\\"))) % 2:
            end += 1
        raw = self.text[self.at + 2 : end]
        self.at = end + 1
        try:
            return codecs.decode(raw.encode("latin-1", "backslashreplace"), "unicode_escape")
        except UnicodeDecodeError as e:
            raise Unreadable(f"$'…' cannot be decoded: {e}") from e

    def _body(self, tokens: list[tuple[str, Word | None]], start: int) -> str:
        """The here-document that starts at this line, for the ``<<`` at *start* among the tokens."""
        end = tokens[start + 1][1] if start + 1 < len(tokens) else None
        if end is None:
            raise Unreadable("nothing says where the here-document ends")
        lines: list[str] = []
        while self.at < len(self.text):
            line, newline, _ = self.text[self.at :].partition("\n")
            self.at += len(line) + len(newline)
            if line.lstrip("\t") == end.text or line == end.text:
                break
            lines.append(line)
        body = "\n".join(lines)
        if not end.is_quoted:
            inner = _Lexer(body)
            inner._double("")
            self.nested += inner.nested
        return body

    def _find(self, what: str, start: int) -> int:
        found = self.text.find(what, start)
        if found < 0:
            raise Unreadable(f"a {what} is not closed")
        return found
