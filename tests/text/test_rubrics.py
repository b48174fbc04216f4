import pytest

from harness.text import SOLVE, InvalidText, parse_rubric, validate

RUBRIC = """
description = "How well a failure is explained."

[[criteria]]
id = "cites-line"
question = "Does it cite the line that failed?"
choices = ["no", "the file only", "yes"]

[[criteria]]
id = "names-cause"
question = "Does it name the cause?"
choices = ["no", "yes"]
"""


def complaints(source: str) -> str:
    try:
        validate({SOLVE: "# user\n{{ task }}", "rubrics/quality.toml": source})
    except InvalidText as e:
        return "\n".join(e.problems)
    return ""


def test_a_rubric_orders_the_choices_of_its_criteria_from_worst_to_best():
    rubric = parse_rubric(RUBRIC)

    assert [criterion.id for criterion in rubric.criteria] == ["cites-line", "names-cause"]
    assert rubric.criteria[0].choices == ("no", "the file only", "yes")
    assert complaints(RUBRIC) == ""


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("", "'criteria' is missing"),
        ("criteria = []", "criteria: "),
        (RUBRIC.replace('"no", "yes"', '"no"'), "criteria.1.choices: "),
        (RUBRIC.replace('"no", "yes"', '"no", "no"'), "criteria.1.choices: 'no' is there twice"),
        (RUBRIC.replace('"no", "yes"', '"no", ""'), "criteria.1.choices.1: "),
        (RUBRIC.replace('"no", "yes"', "0, 1"), "criteria.1.choices.0: "),
        (RUBRIC.replace("names-cause", "cites-line"), "criteria: two criteria have the id 'cites-line'"),
        (RUBRIC.replace("names-cause", "Names cause"), "criteria.1.id: "),
        (RUBRIC + "weight = 2", "unknown key 'criteria.1.weight'"),
        (RUBRIC.replace("description", "title"), "unknown key 'title'"),
        (RUBRIC.replace("question", "text"), "'criteria.0.question' is missing"),
        ("[[criteria", "not TOML: "),
        ("a = " + "[" * 5000, "not TOML: "),
    ],
)
def test_a_rubric_that_a_judge_could_not_use_is_refused(source, complaint):
    assert f"rubrics/quality.toml: {complaint}" in complaints(source)


def test_parsing_a_rubric_that_is_not_valid_raises():
    with pytest.raises(InvalidText, match=r"quality\.toml: not TOML"):
        parse_rubric("[[", "quality.toml")
