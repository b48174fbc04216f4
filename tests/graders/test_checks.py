from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import TrialError
from harness.graders import (
    AtMost,
    CodeBlocksRun,
    Column,
    CommandPasses,
    DiffInScope,
    FitsSchema,
    Fresh,
    Holds,
    Lacks,
    LinksResolve,
    NamesExist,
    Reconciles,
    RowCount,
    Table,
    Unique,
)
from harness.graders.marks import print_of
from harness.graders.patches import in_globs, is_trick
from harness.protocols import Work
from tests.graders.world import TASK, a_patch, faults, files_in, work_on

SCOPE = DiffInScope(["docs/**/*.md", "*.txt"], denied=["docs/final.md"], files=2, lines=10)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_passes_or_fails_with_the_end_of_what_it_printed(tmp_path):
    assert faults(CommandPasses("tests", ["sh", "-c", "exit 0"]), folder=tmp_path) == []

    broken = CommandPasses("tests", ["sh", "-c", "echo begin; echo the cause; exit 3"])
    [mark] = broken.check(TASK, "", work_on(tmp_path))
    assert "exit code `3`" in mark.because
    assert mark.excerpt.endswith("the cause")


def test_a_command_whose_output_would_tell_the_answer_shows_none_of_it(tmp_path):
    hidden = CommandPasses("tests", ["sh", "-c", "echo expected 42; exit 1"], shows=0)

    [mark] = hidden.check(TASK, "", work_on(tmp_path))

    assert mark.excerpt == ""


def test_a_command_that_hangs_is_a_fault_and_one_that_is_not_installed_is_none(tmp_path):
    assert "limit of time" in faults(CommandPasses("tests", ["sleep", "60"], seconds=0.2), folder=tmp_path)[0]
    assert "not there any more" in faults(CommandPasses("tests", ["./check.sh"]), folder=tmp_path)[0]
    with pytest.raises(TrialError, match="no-such-program"):
        faults(CommandPasses("tests", ["no-such-program"]), folder=tmp_path)


def test_a_check_of_files_says_when_there_are_none():
    with pytest.raises(TrialError, match="give the verifier a sandbox"):
        CommandPasses("tests", ["true"]).check(TASK, "", Work(TASK, {}))


# ── words and values ───────────────────────────────────────────────────────────────────────────────────────────


def test_patterns_and_lengths():
    assert faults(Holds("signed", r"^-- \w+$", "nobody signed it"), "text\n-- Ann") == []
    assert faults(Holds("signed", r"^-- \w+$", "nobody signed it"), "text") == ["nobody signed it"]
    assert faults(Lacks("todo", "TODO", "open"), "done") == []
    assert faults(Lacks("todo", "TODO", "open"), "a TODO, b TODO") == ["open"] * 2
    assert faults(AtMost(3), "abc") == []
    assert "4 characters" in faults(AtMost(3), "abcd")[0]


def test_of_many_faults_some_are_told_and_the_others_counted():
    found = faults(Lacks("todo", "TODO", "open"), "TODO " * 100)
    assert len(found) == 11
    assert found[-1] == "90 more such faults"


@pytest.mark.parametrize(
    "check", [Lacks("todo", "TODO", "open"), AtMost(9), FitsSchema({}), RowCount(9), SCOPE], ids=lambda check: check.id
)
def test_a_megabyte_is_at_fault_like_anything_else(check):
    found = faults(check, "TODO" * 262_144)
    assert found
    assert sum(map(len, found)) < 10_000


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"enum": ["the-secret-size"]}},
    "required": ["name"],
}


@pytest.mark.parametrize(
    ("output", "wrong"),
    [
        ('{"name": "a"}', None),
        ('{"name": 1}', "`$.name` breaks the rule type"),
        ("{}", "`$` breaks the rule required of the schema: `name`"),
        ('{"name": "a", "size": "big"}', "`$.size` breaks the rule enum"),
        ("{", "this is not JSON"),
        ("", "this is not JSON"),
        ("[" * 100_000, "this is not JSON"),
    ],
)
def test_a_value_fits_its_schema_or_the_rule_that_it_breaks_is_named(output, wrong):
    found = faults(FitsSchema(SCHEMA), output)
    assert (found == []) if wrong is None else found[0].startswith(wrong)
    assert "the-secret-size" not in "".join(found)


def test_the_schema_of_a_file(tmp_path):
    files_in(tmp_path, {"out.json": '{"name": "a"}'})
    assert faults(FitsSchema(SCHEMA, path="out.json"), folder=tmp_path) == []
    assert faults(FitsSchema(SCHEMA, path="gone.json"), folder=tmp_path) == ["there is no file `gone.json`"]
    assert faults(FitsSchema(SCHEMA, path="../out.json"), folder=tmp_path) == [
        "`../out.json` is no file of the worktree that can be read"
    ]


# ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────

CSV = "id,amount,at\n1,2.5,2026-01-02T11:00:00Z\n2,1.5,2026-01-01\n"
JSONL = '{"id": 1, "amount": 2.5}\n\n{"id": 2, "amount": 1.5}\n'


def test_rows_are_counted():
    assert faults(RowCount(2, 2), CSV) == []
    assert faults(RowCount(2, 2, Table(form="jsonl")), JSONL) == []
    assert "too few rows" in faults(RowCount(3), CSV)[0]
    assert "too many rows" in faults(RowCount(0, 1), CSV)[0]
    assert "too few rows" in faults(RowCount(1), "")[0]


@pytest.mark.parametrize(
    ("form", "text", "wrong"),
    [
        ("csv", "a,b\n1\n", "line `2` has not as many cells"),
        ("csv", "a,b\n1,2,3\n", "line `2` has not as many cells"),
        ("csv", "a,a\n1,2\n", "the same name"),
        ("csv", 'a\n"open', "this is not CSV"),
        ("jsonl", '{"a": 1}\nnot json', "line `2` is not a JSON object"),
        ("jsonl", "[1]", "line `1` is not a JSON object"),
    ],
)
def test_what_is_no_table_is_a_fault(form, text, wrong):
    assert wrong in faults(RowCount(1, None, Table(form=form)), text)[0]


def test_data_is_fresh_by_its_newest_row():
    def check(hours):
        return Fresh("at", timedelta(hours=hours), clock=lambda: NOON)

    assert faults(check(2), CSV) == []
    assert "older than" in faults(check(0.5), CSV)[0]
    assert "in the future" in faults(check(2), "at\n2027-01-01\n2026-01-02T11:00:00\n")[0]
    assert "no time in column" in faults(check(2), "at\nsoon\n")[0]
    assert faults(check(2), "at\n") == ["there are no rows"]


def test_sums_reconcile_with_a_number_or_another_file_and_the_difference_is_not_told(tmp_path):
    files_in(tmp_path, {"ledger.jsonl": JSONL, "bad.csv": "amount\nnan\n"})
    amount = Column("amount")
    ledger = Column("amount", Table("ledger.jsonl", "jsonl"))

    assert faults(Reconciles(amount, 4.0), CSV) == []
    assert faults(Reconciles(amount, ledger), CSV, tmp_path) == []
    assert faults(Reconciles(amount, 4321.5), CSV) == ["column `amount` does not add up"]
    assert "no number" in faults(Reconciles(Column("amount", Table("bad.csv")), 4.0), CSV, tmp_path)[0]
    assert "no number" in faults(Reconciles(Column("gone"), 4.0), CSV)[0]


def test_rows_are_told_apart_by_their_key():
    assert faults(Unique(["id"]), CSV) == []
    assert "stands in `2` rows" in faults(Unique(["id"]), CSV + "1,9,2026-01-01\n")[0]
    assert faults(Unique(["id", "amount"]), CSV + "1,9,2026-01-01\n") == []
    assert "a row has no" in faults(Unique(["key"]), CSV)[0]


# ── patches ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "patch",
    [
        "",
        a_patch(),
        a_patch("docs/deep/er/b.md", 9),
        a_patch("a.txt"),
        a_patch("docs/ünï.md"),
        a_patch() + a_patch("a.txt"),
    ],
)
def test_a_patch_within_its_scope_passes(patch):
    assert faults(SCOPE, patch) == []


@pytest.mark.parametrize(
    ("patch", "wrong"),
    [
        (a_patch("src/a.py"), "out of scope"),
        (a_patch("docs/final.md"), "out of scope"),
        (a_patch("deep/a.txt"), "out of scope"),
        (a_patch("docs/../src/a.md"), "not a path in the worktree"),
        (a_patch("../docs/a.md"), "not a path in the worktree"),
        (a_patch("/docs/a.md"), "not a path in the worktree"),
        (a_patch("docs/.git/a.md"), "not a path in the worktree"),
        (a_patch("docs/.GIT /a.md"), "not a path in the worktree"),
        (a_patch("docs/.g\u200cit/a.md"), "not a path in the worktree"),
        (a_patch("docs/git~1/a.md"), "not a path in the worktree"),
        (a_patch("docs\\a.md"), "not a path in the worktree"),
        (a_patch(lines=11), "changes 11 lines"),
        (a_patch() + a_patch("a.txt") + a_patch("b.txt"), "changes 3 files"),
        (a_patch(mode="100755"), "executable"),
        (a_patch(mode="120000"), "symbolic link"),
        (a_patch(mode="160000"), "submodule"),
        (a_patch(mode="0120000"), "a mode that no file has"),
        ("diff --git a/docs/a.md b/docs/a.md\nold mode 100644\nnew mode 100755\n", "changes its mode"),
        (
            "diff --git a/docs/a.md b/docs/a.md\nindex 1234567..7654321 120000\n--- a/docs/a.md\n+++ b/docs/a.md\n"
            "@@ -1 +1 @@\n-b.md\n\\ No newline at end of file\n+../../etc/passwd\n\\ No newline at end of file\n",
            "symbolic link",
        ),
        (
            "diff --git a/src/a.py b/docs/a.md\nsimilarity index 100%\nrename from src/a.py\nrename to docs/a.md\n",
            "moves or copies",
        ),
        (
            "diff --git a/docs/a.md b/docs/a.md\nnew file mode 100644\nindex 0000000..d95f3ad\nGIT binary patch\n"
            "literal 3\nKcmZQzWMT#Y01f~L\n\nliteral 0\nHcmV?d00001\n\n",
            "binary",
        ),
        ("Binary files a/docs/a.md and b/docs/a.md differ\n", "no patch that git can read"),
        ("I changed the docs as you asked.", "no patch that git can read"),
        (a_patch().replace("+1,1", "+1,7"), "no patch that git can read"),
        (a_patch() + "\n--- a/src/x.py\n+++ b/src/x.py\n@@ -1 +1 @@\n-a\n+b\n", "out of scope"),
        (a_patch().replace("+++ b/docs", "+++ b/src"), "no patch that git can read"),
    ],
)
def test_a_patch_that_does_more_than_its_scope_allows_is_at_fault(patch, wrong):
    found = faults(SCOPE, patch)
    assert any(wrong in because for because in found), found


def test_a_line_that_looks_like_a_header_within_a_hunk_is_none():
    patch = (
        "diff --git a/docs/a.md b/docs/a.md\nindex 1234567..7654321 100644\n--- a/docs/a.md\n+++ b/docs/a.md\n"
        "@@ -1,2 +1,2 @@\n--- a/src/a.py\n-old mode 100755\n+++ b/src/b.py\n+new file mode 120000\n"
    )
    assert faults(SCOPE, patch) == []


def test_what_is_allowed_besides_is_no_fault():
    allowed = DiffInScope(["**"], may=frozenset({"mode", "symlink", "rename"}))
    assert faults(allowed, a_patch(mode="100755") + a_patch("b", mode="120000")) == []


@pytest.mark.parametrize(
    ("glob", "path", "holds"),
    [
        ("**/*.md", "a.md", True),
        ("**/*.md", "a/b/c.md", True),
        ("*.md", "a/b.md", False),
        ("docs/**", "docs/a/b", True),
        ("docs/**", "docsx/a", False),
        ("a?.md", "ab.md", True),
        ("a.md", "aXmd", False),
    ],
)
def test_globs(glob, path, holds):
    assert in_globs(path, [glob]) is holds


@given(st.lists(st.sampled_from(["a", "..", ".git", "", "b.md", "."]), min_size=1, max_size=5))
def test_no_path_with_a_way_out_is_taken_for_a_plain_one(parts):
    if {"..", ".git", "", "."} & set(parts):
        assert is_trick("/".join(parts))
    else:
        assert not is_trick("/".join(parts))


# ── documents ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_links_resolve_to_files_and_headings(tmp_path):
    files_in(
        tmp_path,
        {
            "README.md": "# Top\n[a](docs/a.md) [b](docs/a.md#two-words) [c](#top) ![i](i.txt) [r][ref] <https://a.org/x>\n"
            "[root](/docs/a.md) [folder](docs) [mail](mailto:a@b.org) [line](i.txt#L3) `[not](a-link)`\n\n"
            "```\n[nor](this)\n```\n\n[ref]: docs/a.md#here\n",
            "docs/a.md": '# Two `Words`\n\n# Two Words\n<a id="here"></a>\n'
            "[up](../README.md) [self](#two-words-1) [sp](b%20c.md)\n",
            "docs/b c.md": "x",
            "i.txt": "",
        },
    )
    assert faults(LinksResolve(), folder=tmp_path) == []


@pytest.mark.parametrize(
    ("link", "wrong"),
    [
        ("[a](gone.md)", "leads to no file"),
        ("[a](b.md#gone)", "leads to no heading"),
        ("[a](#gone)", "leads to no heading"),
        ("![a](gone.png)", "leads to no file"),
        ('<a href="gone.md">a</a>', "leads to no file"),
        ("[a][r]\n\n[r]: gone.md", "leads to no file"),
        ("[a](../../etc/passwd)", "leads out of the worktree"),
        ("[a](%2e%2e/x)", "leads out of the worktree"),
        ("[a](https://)", "is no address"),
        ("[a](https://exa..mple/x)", "is no address"),
        ("[a](javascript:alert(1))", "no link for a document"),
        ("[a](file:///etc/passwd)", "no link for a document"),
        ("[a](mailto:nobody)", "is no address"),
    ],
)
def test_a_link_that_leads_nowhere_is_quoted_with_its_line(tmp_path, link, wrong):
    files_in(tmp_path, {"a.md": f"# A\n\n{link}\n", "b.md": "# B\n"})
    check = LinksResolve()
    [mark] = [mark for mark in check.check(TASK, "", work_on(tmp_path)) if not mark.passed]
    assert wrong in mark.because
    assert mark.excerpt.startswith("a.md:3: ")


def test_addresses_elsewhere_are_asked_for_only_by_who_is_given(tmp_path):
    files_in(tmp_path, {"a.md": "[a](https://example.org/old) [b](https://example.org/new)\n"})
    check = LinksResolve(external=lambda url: "404" if url.endswith("old") else "")
    assert faults(check, folder=tmp_path) == ["404"]


CODE = {
    "pkg/__init__.py": "from pkg.core import *\n",
    "pkg/core.py": "LIMIT = 1\ndef run(): ...\nclass Base:\n    kind = 1\n    def __init__(self): self.size = 2\n"
    "class Job(Base):\n    def start(self): ...\ntry:\n    import fast\nexcept ImportError:\n    slow = True\n",
    "src/other.py": "x: int = 1\n",
}


@pytest.mark.parametrize(
    "text",
    [
        "`pkg.core.run()` and `pkg.core.Job.start`, `pkg.core.Job.kind`, `pkg.core.Job(…).size` `pkg.core.slow`",
        "`pkg.anything` comes from a star import; `json.gone` is not ours; see `pkg/core.py`, `other.py`, `other.x`",
        "```python\nimport pkg.core as c\nfrom pkg.core import run\nc.LIMIT\n```",
        "```python\n>>> from pkg.core import Job\n>>> Job.start\n<function>\n```",
        "pkg.core.gone in prose is not set as code",
    ],
)
def test_names_that_the_code_defines_exist(tmp_path, text):
    files_in(tmp_path, {"doc.md": text, **CODE})
    assert faults(NamesExist(), folder=tmp_path) == []


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("`pkg.core.gone()`", "pkg.core.gone"),
        ("`pkg.core.Job.stop`", "pkg.core.Job.stop"),
        ("`other.y`", "other.y"),
        ("```python\nfrom pkg.core import gone\n```", "pkg.core.gone"),
        ("```python\nimport other\nprint(other.y)\n```", "other.y"),
        ("```py\n>>> from pkg.core import Job\n>>> Job.stop()\n```", "pkg.core.Job.stop"),
    ],
)
def test_a_name_that_the_code_does_not_define_is_quoted(tmp_path, text, gone):
    files_in(tmp_path, {"doc.md": text, **CODE})
    assert faults(NamesExist(), folder=tmp_path) == [f"`{gone}` is not in the code"]


def test_the_code_of_a_document_runs_in_order_with_one_set_of_names(tmp_path):
    files_in(
        tmp_path,
        {
            "src/lib.py": "def twice(x): return 2 * x\n",
            "json.py": "raise SystemExit  # a module of the project must not stand in for one of the program",
            "a.md": "```python\nfrom lib import twice\n```\ntext\n```python\n>>> twice(2)\n4\n>>> b = 3\n```\n"
            "```py\nassert b == 3\n```\n```sh\nexit 1\n```\n",
        },
    )
    assert faults(CodeBlocksRun(at_least=3), folder=tmp_path) == []
    assert "at least 4" in faults(CodeBlocksRun(at_least=4), folder=tmp_path)[0]


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        ("x = 1\ngone(x)", "line `4`: NameError"),
        (">>> 1 + 1\n3", "line `3`: what it prints is not what is written there"),
        (">>> 1 / 0\n3", "ZeroDivisionError"),
        ("# see below\n\n>>> 1 + 1\n3", "line `5`: what it prints is not what is written there"),
        ("print('>>> ')\ngone", "line `4`: NameError"),
        ("def", "SyntaxError"),
        ("raise SystemExit", "SystemExit"),
        ("import os\nos._exit(0)", "ended the program before its end"),
        ("import time\ntime.sleep(60)", "killed at its limit of time"),
        ('print("0000[]")\nimport os\nos._exit(0)', "ended the program before its end"),
    ],
)
def test_code_that_does_not_run_is_named_with_its_line(tmp_path, block, wrong):
    files_in(tmp_path, {"a.md": f"# A\n```python\n{block}\n```\n"})
    [because] = faults(CodeBlocksRun(seconds=2.0), folder=tmp_path)
    assert wrong in because
    assert "2" not in because.split("what it prints")[-1]


# ── fingerprints ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_fault_has_the_same_fingerprint_whatever_its_numbers_and_names():
    assert print_of("links", "the link `a.md` leads to no file") == print_of(
        "links", "the link `b/c.md` leads to no file"
    )
    assert print_of("rows", "too few rows: 3") == print_of("rows", "too few rows: 12")
    assert print_of("links", "leads to no file") != print_of("links", "leads to no heading")
    assert print_of("links", "wrong") != print_of("names", "wrong")
