"""What an agent may do: rules on tools and their arguments, asked before each call.

Nothing that a model says is asked: a policy is a value of the experiment, and part of its fingerprint. Whatever no
rule allows is denied; of the rules that match, the strictest counts. A rule that holds or denies matches if any reading
of an argument does (as it is written, unescaped, its path made plain, in small letters); one that allows, only if all
do.
"""

import json
import posixpath
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final, Literal, cast
from urllib.parse import unquote

from harness.agent.commands import findings, is_secret, leads_outside
from traces.records import Concern, Effect, ToolCall

Verdict = Literal["allow", "hold", "deny"]
STRICTNESS: Final[Mapping[Verdict, int]] = {"allow": 0, "hold": 1, "deny": 2}
EFFECTS: Final[tuple[Effect, ...]] = ("none", "worktree", "outside")
DEEPEST: Final = 16
"""Arguments nested deeper are read as one text."""
FILE_TOOLS: Final = "read_file|write_file|edit_file|list_files|search_files"
PATHS: Final = "*path*|*file|*files|*folder*|*director*|dir|destination|cwd"
"""Names of arguments that are taken for paths."""


@dataclass(frozen=True)
class Judgement:
    """What a policy says about a call."""

    verdict: Verdict
    because: str
    """For the model and for a person; empty where it is allowed."""
    concern: Concern | None
    rule: str
    """Which rule said so; empty: there is none for it."""


# ── what is matched ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Doing:
    """Matches a shell command that is one of these concerns, see ``harness.agent.commands``."""

    concerns: tuple[Concern, ...]
    worktree: str = ""
    """Where the sandbox shows the worktree."""

    def reasons(self, value: object) -> list[str]:
        texts = {joined(value), shlex.join(leaves_of(value))} if isinstance(value, list | tuple) else {joined(value)}
        told = [f for text in texts for f in findings(text, self.worktree) if f.concern in self.concerns]
        return list(dict.fromkeys(f"this command {f.because}" for f in told))


@dataclass(frozen=True)
class Outside:
    """Matches a path that leads out of the worktree, however it is written."""

    worktree: str = ""

    def reasons(self, value: object) -> list[str]:
        for leaf in leaves_of(value):
            for text in readings(leaf, fold=False):
                is_url = re.match(r"[a-z][\w+.-]*:/|file:", text, re.IGNORECASE)
                if is_url or "\0" in text or leads_outside(text.replace("\\", "/"), self.worktree):
                    return [f"{leaf[:80]!r} leads out of the worktree; name files from its top"]
        return []


@dataclass(frozen=True)
class Secret:
    """Matches a path where keys and passwords are kept, or from where git runs programs."""

    def reasons(self, value: object) -> list[str]:
        for leaf in leaves_of(value):
            if any(is_secret(t) or re.search(r"(^|/)\.git(/|$)", t) for t in readings(leaf, fold=True)):
                return [f"{leaf[:80]!r} is where keys are kept or what git runs by itself"]
        return []


Matcher = str | tuple[str, ...] | Doing | Outside | Secret
"""A glob, some of which one must match, or something that knows what to look for."""


@dataclass(frozen=True)
class Rule:
    """One sentence of a policy."""

    verdict: Verdict
    tool: str
    """Glob of the names of tools; several with ``|`` between."""
    where: Mapping[str, Matcher] = field(default_factory=dict[str, Matcher])
    """Glob of the names of arguments (``options.host`` of a nested one), several with ``|`` between → what these must
    be. All must match."""
    concern: Concern | None = None
    because: str = ""
    effects: tuple[Effect, ...] = EFFECTS
    """Of the tools that it is about."""

    @property
    def name(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.where.items())
        return f"{self.verdict} {self.tool}({shown})"

    def reasons(self, call: ToolCall, effect: Effect) -> list[str] | None:
        """Why it matches *call*; ``None``: it does not."""
        if effect not in self.effects or not self.names(call.name):
            return None
        found: list[str] = []
        for name, matcher in self.where.items():
            told = self._argument(name, matcher, call.arguments)
            if told is None:
                return None
            found += told
        return found

    def names(self, tool: str) -> bool:
        """Is it about *tool*?"""
        if self.verdict == "allow":
            return is_named(tool, self.tool)
        return any(is_named(text, self.tool.casefold()) for text in readings(tool, fold=True))

    def _argument(self, name: str, matcher: Matcher, arguments: Mapping[str, Any]) -> list[str] | None:
        """Why the arguments with this *name* match; ``None``: they do not, or there are none."""
        if self.verdict == "allow":
            named = [value for path, value in walk(arguments) if is_named(path, name)]
            return [] if named and all(allows(matcher, value) for value in named) else None
        named = [
            value
            for path, value in walk(arguments)
            if any(is_named(n, name.casefold()) for n in (path.casefold(), path.casefold().rpartition(".")[2]))
        ]
        for value in named:
            told = catches(matcher, value)
            if told is not None:
                return told
        return None


def allow(tool: str, /, **where: Matcher) -> Rule:
    return Rule("allow", tool, where)


def hold(tool: str, concern: Concern, because: str, /, **where: Matcher) -> Rule:
    """A person is asked before each such call. *because* is shown to them and to the model."""
    return Rule("hold", tool, where, concern, because)


def deny(tool: str, concern: Concern, because: str, /, **where: Matcher) -> Rule:
    return Rule("deny", tool, where, concern, because)


# ── policies ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Policy:
    """Rules, and other policies that are asked as well."""

    rules: tuple[Rule, ...] = ()
    unnamed: Mapping[Effect, Verdict] = field(default_factory=dict[Effect, Verdict])
    """What goes for a tool that no rule allows, by its effect; where this says nothing it is denied."""
    bounds: tuple["Policy", ...] = ()
    """The strictest answer of all counts: it is what it was narrowed by, and no rule that is added widens that."""

    def judge(self, call: ToolCall, effect: Effect) -> Judgement:
        """The strictest that it, or any of its bounds, says about *call* to a tool with this *effect*."""
        return strictest([self._own(call, effect), *(bound.judge(call, effect) for bound in self.bounds)])

    def plus(self, *rules: Rule) -> "Policy":
        """With more rules. Its bounds stay."""
        return replace(self, rules=(*self.rules, *rules))

    def narrowed(self, by: "Policy") -> "Policy":
        """Both are asked, and the stricter answer counts: never less strict than either."""
        return replace(self, bounds=(*self.bounds, by))

    def _own(self, call: ToolCall, effect: Effect) -> Judgement:
        said: list[Judgement] = []
        for rule in self.rules:
            reasons = rule.reasons(call, effect)
            if reasons is not None:
                because = "; ".join(part for part in (rule.because, *reasons[:3]) if part)
                said.append(Judgement(rule.verdict, because, rule.concern, rule.name))
        is_allowed = any(r.verdict == "allow" and effect in r.effects and r.names(call.name) for r in self.rules)
        verdict = (
            "deny" if is_allowed else self.unnamed.get(effect, "deny")
        )  # what is named is what is allowed, no more
        if not any(j.verdict != "deny" for j in said):
            said.append(self._unsaid(call, effect, verdict))
        return strictest(said)

    def _unsaid(self, call: ToolCall, effect: Effect, verdict: Verdict) -> Judgement:
        """On a call that no rule allows or holds."""
        if verdict == "allow":
            return Judgement("allow", "", None, "")
        concern = suggested(call)
        if verdict == "hold":
            return Judgement("hold", f"{call.name[:80]!r} changes things outside, and no rule allows it", concern, "")
        return Judgement("deny", f"no rule allows {call.name[:80]!r} with these arguments", concern, "")


def strictest(judgements: Iterable[Judgement]) -> Judgement:
    """The first of the strictest."""
    return max(judgements, key=lambda j: STRICTNESS[j.verdict])


def standard_policy(worktree: str = "") -> Policy:
    """What an agent may do that nobody watches: work in its worktree, and call what changes nothing.

    Deleting what cannot be brought back, leaving the worktree and the network are denied. Money, users, production,
    keys and rights wait for a person, and so does each tool with an effect outside that no rule allows: add
    ``allow("send_report")`` to it for one that may be called. *worktree*: where the sandbox shows the worktree.
    """
    command = "run_command"
    held: Mapping[Concern, str] = {
        "money": "it moves money",
        "users": "it concerns users",
        "production": "it concerns production",
        "security": "it concerns keys, rights, or cannot be looked through",
    }
    denied: Mapping[Concern, str] = {
        "destructive": "it deletes what cannot be brought back",
        "network": "there is no network",
        "out_of_scope": "it leaves the worktree",
    }
    return Policy(
        rules=(
            allow(FILE_TOOLS),
            allow(command),
            *(deny(command, c, text, **{"*": Doing((c,), worktree)}) for c, text in denied.items()),
            *(hold(command, c, text, **{"*": Doing((c,), worktree)}) for c, text in held.items()),
            deny(FILE_TOOLS, "out_of_scope", "", **{PATHS: Outside(worktree)}),
            hold(FILE_TOOLS, "security", "", **{PATHS: Secret()}),
            Rule("deny", "*", {PATHS: Outside(worktree)}, "out_of_scope", "", ("worktree",)),
            Rule("hold", "*", {PATHS: Secret()}, "security", "", ("worktree",)),
        ),
        unnamed={"none": "allow", "worktree": "allow", "outside": "hold"},
    )


# ── readings ───────────────────────────────────────────────────────────────────────────────────────────────────


def walk(value: object, path: str = "", depth: int = DEEPEST) -> Iterator[tuple[str, object]]:
    """Each argument by its name, the whole first, then what is in it: ``options``, ``options.host``."""
    if path:
        yield path, value
    if isinstance(value, Mapping) and depth:
        for key, item in cast("Mapping[object, object]", value).items():
            yield from walk(item, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(value, list | tuple) and depth:
        for item in cast("Sequence[object]", value):
            if isinstance(item, Mapping):
                yield from walk(cast("object", item), path, depth - 1)


def leaves_of(value: object, depth: int = DEEPEST) -> list[str]:
    """The texts in *value*, in their order; of an empty list, an empty text."""
    if isinstance(value, Mapping) and depth:
        items = cast("Mapping[object, object]", value).values()
        return [leaf for item in items for leaf in leaves_of(item, depth - 1)] or [""]
    if isinstance(value, list | tuple) and depth:
        items = cast("Sequence[object]", value)
        return [leaf for item in items for leaf in leaves_of(item, depth - 1)] or [""]
    return [value if isinstance(value, str) else json.dumps(value, default=str)]


def joined(value: object) -> str:
    return " ".join(leaves_of(value))


@lru_cache(maxsize=256)
def readings(text: str, *, fold: bool) -> frozenset[str]:
    """What *text* may be taken for: as it is, with escapes undone, in plain letters, as a plain path; with *fold* also
    in small letters."""
    found = {text, unicodedata.normalize("NFKC", text)}
    found |= {unescaped(t) for t in found}
    found |= {unicodedata.normalize("NFKC", t) for t in found}
    found |= {t.replace("\\", "/") for t in found}
    found |= {t.strip() for t in found}
    found |= {plain_path(t) for t in found}
    return frozenset(found | {t.casefold() for t in found} if fold else found)


def unescaped(text: str) -> str:
    """*text* with its percent escapes undone, those of escapes included."""
    for _ in range(4):
        text, before = unquote(text), text
        if text == before:
            break
    return text


def plain_path(text: str) -> str:
    """Without ``//``, ``.`` and ``..``; ``a/../../etc`` is ``../etc``."""
    scheme, mark, rest = text.partition("://") if re.match(r"[a-z][\w+.-]*://", text, re.IGNORECASE) else ("", "", text)
    return scheme + mark + re.sub("^//", "/", posixpath.normpath(rest)) if rest else text


def is_named(name: str, globs: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs.split("|"))


def globs(matcher: str | tuple[str, ...]) -> tuple[str, ...]:
    return (matcher,) if isinstance(matcher, str) else matcher


def allows(matcher: Matcher, value: object) -> bool:
    """Is all of *value*, in all its readings, what *matcher* is about?"""
    if not isinstance(matcher, str | tuple):
        return bool(matcher.reasons(value))
    return all(
        any(fnmatchcase(text, glob) for glob in globs(matcher))
        for leaf in leaves_of(value)
        for text in readings(leaf, fold=False)
    )


def catches(matcher: Matcher, value: object) -> list[str] | None:
    """Why any of *value*, in any reading, is what *matcher* is about; ``None``: it is not."""
    if not isinstance(matcher, str | tuple):
        return matcher.reasons(value) or None
    texts = {text for leaf in (*leaves_of(value), joined(value)) for text in readings(leaf, fold=True)}
    wanted = {form for glob in globs(matcher) for form in (glob, glob.casefold())}
    return [] if any(fnmatchcase(text, glob) for text in texts for glob in wanted) else None


# ── what it is about ───────────────────────────────────────────────────────────────────────────────────────────

WORDS: Final[Mapping[Concern, frozenset[str]]] = {
    "destructive": frozenset(
        {"delete", "drop", "remove", "destroy", "purge", "wipe", "truncate", "erase", "terminate"}
    ),
    "money": frozenset({"pay", "payment", "charge", "refund", "transfer", "invoice", "payout", "purchase", "money"}),
    "production": frozenset({"prod", "production", "deploy", "release", "live", "rollout"}),
    "security": frozenset({"secret", "token", "credential", "key", "permission", "role", "grant", "password", "acl"}),
    "users": frozenset(
        {"user", "account", "customer", "email", "mail", "invite", "message", "sms", "notify", "member"}
    ),
    "network": frozenset({"http", "https", "url", "fetch", "download", "upload", "request", "webhook", "host", "post"}),
}


def suggested(call: ToolCall) -> Concern:
    """What a call seems to be about, by the words of the tool's name and of its arguments' names; for a person who
    reads a list, no more."""
    names = [call.name, *(path for path, _ in walk(call.arguments))]
    words = {w.lower() for name in names for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    words |= {word.removesuffix("s") for word in words}
    for concern, of_it in WORDS.items():
        if words & of_it:
            return concern
    return "missing_permission"
