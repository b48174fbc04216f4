"""What edits may do, without git."""

import pytest

from harness.versions import InvalidEdit, applied
from traces.records import Edit

TEXT = {"prompts/solve.md": "Solve.\n", "skills/add/SKILL.md": "Add.\n"}


def test_edits_replace_add_and_delete_whole_files_and_leave_the_others():
    edits = [
        Edit(path="prompts/solve.md", text="Solve well.\n"),
        Edit(path="prompts/größe 2.md", text=""),
        Edit(path="skills/add/SKILL.md", text=None),
    ]

    assert applied(TEXT, edits) == {"prompts/solve.md": "Solve well.\n", "prompts/größe 2.md": ""}
    assert TEXT["prompts/solve.md"] == "Solve.\n"


def test_a_file_may_make_room_for_a_directory_and_a_directory_for_a_file():
    assert applied(TEXT, [Edit(path="skills/add/SKILL.md", text=None), Edit(path="skills", text="x")])["skills"] == "x"
    edits = [Edit(path="prompts/solve.md/a.md", text="x"), Edit(path="prompts/solve.md", text=None)]
    assert set(applied(TEXT, edits)) == {"prompts/solve.md/a.md", "skills/add/SKILL.md"}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "does not name a file"),
        ("/etc/passwd", "absolute"),
        ("C:/x.md", "absolute"),
        ("../grader.py", r"'\.\.'"),
        ("prompts/../../grader.py", r"'\.\.'"),
        ("./prompts/solve.md", r"'\.'"),
        ("prompts//solve.md", "part ''"),
        ("prompts/", "part ''"),
        ("prompts\\solve.md", "backslash"),
        ("prompts/a\nb.md", "control character"),
        ("prompts/a\0b.md", "control character"),
        ("prompts/a\u202eb.md", "cannot be seen"),
        ("prompts/\ud800.md", "cannot be seen"),
        (".git/hooks/pre-commit", "steers git"),
        ("prompts/.GIT/config", "steers git"),
        (".git./config", "steers git"),
        ("git~1/config", "steers git"),
        (".git::$INDEX_ALLOCATION/config", "steers git"),
        (".gitattributes", "steers git"),
        ("prompts/.gitignore", "steers git"),
        ("prompts/" + "x" * 256, "255 bytes"),
        ("prompts", "file and a directory"),
        ("prompts/solve.md/more.md", "file and a directory"),
    ],
)
def test_a_path_that_is_no_file_of_the_subject_is_refused(path: str, why: str):
    with pytest.raises(InvalidEdit, match=why):
        applied(TEXT, [Edit(path=path, text="x")])


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ([Edit(path="prompts/none.md", text=None)], "not there"),
        ([Edit(path="prompts/solve.md", text="a"), Edit(path="prompts/solve.md", text="b")], "twice"),
        ([Edit(path="a.md", text="a"), Edit(path="a.md", text=None)], "twice"),
        ([Edit(path="a", text="a"), Edit(path="a/b", text="b")], "file and a directory"),
        ([Edit(path="a.md", text="\ud800")], "lone surrogate"),
        ([Edit(path=path, text=None) for path in TEXT], "every file"),
    ],
)
def test_edits_that_do_not_fit_are_refused(edits: list[Edit], why: str):
    with pytest.raises(InvalidEdit, match=why):
        applied(TEXT, edits)


def test_a_name_that_only_resembles_one_of_gits_is_fine():
    assert "prompts/.github.md" in applied(TEXT, [Edit(path="prompts/.github.md", text="x")])
