import pytest

from harness.protocols import Message
from harness.text import SOLVE, InvalidText, render, skill_index, skills, validate

PROMPT = "# system\nYou have skills:\n{{ skills }}\n\n# user\n{{ task }}\n"
WHOLE = """---
name: plurals
description: Forms the plural of a noun. Use it when a plural is asked for.
license: Apache-2.0
compatibility: Needs nothing.
metadata:
  lineage: "3"
allowed-tools: Read Grep
---
# Plurals

Say {{ task }} aloud, then add an s.
"""


def skill(front: str, body: str = "Do it.", folder: str = "plurals") -> dict[str, str]:
    return {SOLVE: PROMPT, f"skills/{folder}/SKILL.md": f"---\n{front}\n---\n{body}\n"}


def complaints(text: dict[str, str]) -> str:
    try:
        validate(text)
    except InvalidText as e:
        return "\n".join(e.problems)
    return ""


def test_a_skill_with_all_six_fields_is_read():
    read = skills({"skills/plurals/SKILL.md": WHOLE})["plurals"]

    assert read.header.allowed_tools == "Read Grep"
    assert read.header.metadata == {"lineage": "3"}
    assert read.body.startswith("# Plurals\n\nSay {{ task }} aloud")


def test_the_prompt_names_and_describes_skills_and_keeps_their_bodies_back():
    text = {
        SOLVE: PROMPT,
        "skills/plurals/SKILL.md": WHOLE,
        **skill("name: a\ndescription: |\n  Two\n  lines", folder="a"),
    }

    assert complaints(text) == ""
    assert render(text, task="x")[0] == Message(
        "system",
        "You have skills:\n- a: Two lines\n- plurals: Forms the plural of a noun. Use it when a plural is asked for.",
    )


def test_a_description_is_never_read_as_a_template():
    text = skill("name: plurals\ndescription: '{{ task }} {% raw %}'")

    assert render(text, task="x")[0].content.endswith("- plurals: {{ task }} {% raw %}")


def test_a_harness_without_skills_has_an_empty_index():
    assert skill_index({SOLVE: PROMPT}) == ""


@pytest.mark.parametrize(
    ("front", "complaint"),
    [
        ("description: d", "'name' is missing"),
        ("name: plurals", "'description' is missing"),
        ("name: other\ndescription: d", "name: 'other' differs from the folder's, 'plurals'"),
        ("name: Plurals\ndescription: d", "name: "),
        ("name: -plurals\ndescription: d", "name: "),
        ("name: plu--rals\ndescription: d", "name: "),
        (f"name: {'a' * 65}\ndescription: d", "name: "),
        ("name: plurals\ndescription: ''", "description: "),
        ("name: plurals\ndescription: '   '", "description: "),
        (f"name: plurals\ndescription: {'d' * 1025}", "description: "),
        ("name: plurals\ndescription: yes", "description: "),
        (f"name: plurals\ndescription: d\ncompatibility: {'c' * 501}", "compatibility: "),
        ("name: plurals\ndescription: d\nmetadata: {version: 1.0}", "metadata.version: "),
        ("name: plurals\ndescription: d\nallowed-tools: [Read]", "allowed-tools: "),
        ("name: plurals\ndescription: d\nallowed_tools: Read", "unknown key 'allowed_tools'"),
        ("name: plurals\ndescription: d\nversion: 2", "unknown key 'version'"),
        ("name: plurals\ndescription: d\nbody: d", "unknown key 'body'"),
        ("name: [plurals\ndescription: d", "the front matter is not YAML"),
        ("name: plurals\ndescription: 2026-13-45", "the front matter is not YAML"),
        ("- a\n- b", "'name' is missing"),
        ("[" * 5000, "the front matter is not YAML"),
    ],
)
def test_front_matter_outside_the_specification_is_refused(front, complaint):
    assert f"skills/plurals/SKILL.md: {complaint}" in complaints(skill(front))


def test_a_skill_without_front_matter_is_refused():
    assert "'name' is missing" in complaints({SOLVE: PROMPT, "skills/plurals/SKILL.md": "Just text."})


def test_a_body_that_is_empty_or_too_long_is_refused():
    front = "name: plurals\ndescription: d"

    assert "nothing below the front matter" in complaints(skill(front, body=""))
    assert complaints(skill(front, body="\n".join("x" * 499))) == ""
    assert "the body has 500 lines" in complaints(skill(front, body="\n".join("x" * 500)))


def test_a_skill_may_bring_files_but_needs_its_skill_file():
    text = {SOLVE: PROMPT, "skills/plurals/SKILL.md": WHOLE, "skills/plurals/references/irregular.md": "ox, oxen"}

    assert complaints(text) == ""
    del text["skills/plurals/SKILL.md"]
    assert "a skill is a folder with a SKILL.md" in complaints(text)


def test_reading_a_skill_that_is_not_valid_raises():
    with pytest.raises(InvalidText, match="unknown key 'version'"):
        skills(skill("name: plurals\ndescription: d\nversion: 2"))
