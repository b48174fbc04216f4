"""Which model does what."""

import pickle

from harness.models import Price, Routes, model
from harness.testing import ScriptedModel


def test_each_role_has_its_model_and_others_have_the_default():
    small, large = ScriptedModel("a", name="x:small"), ScriptedModel("b", name="x:large")
    routes = Routes(small, judge=large)
    assert routes.of("judge") is large
    assert routes.of("maker") is routes.of("") is small


def test_routes_show_which_model_does_what_in_one_order():
    there = model("openai:m", base_url="http://127.0.0.1:1")
    small = ScriptedModel("a", name="x:small")
    one, other = Routes(there, judge=small, classifier=there), Routes(there, classifier=there, judge=small)
    assert repr(one) == repr(other)
    assert repr(one).startswith("Routes(ChatModel(name='openai:m'")
    assert "classifier=ChatModel" in repr(one)
    assert "judge=ScriptedModel(" in repr(one)
    table = Routes(there, judge=there)
    assert repr(pickle.loads(pickle.dumps(table))) == repr(table)


def test_a_budget_in_dollars_needs_the_price_of_every_route():
    priced = model("openai:m", base_url="http://127.0.0.1:1", price=Price(1.0, 1.0))
    assert Routes(priced, judge=priced).price_known
    assert not Routes(priced, judge=model("openai:m", base_url="http://127.0.0.1:1")).price_known
