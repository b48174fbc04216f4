import math

import pytest

from harness.errors import UserError
from harness.gate.ledger import SplitLedger
from tests.world import some_tasks

HIDDEN = [task for task in some_tasks() if task.split == "validation"]


def a_ledger(tmp_path, hidden=HIDDEN, horizon=40) -> SplitLedger:
    return SplitLedger(tmp_path, hidden, 0.10, horizon)


def test_a_test_that_is_opened_is_spent_also_by_a_process_that_dies(tmp_path):
    assert a_ledger(tmp_path).open("run-1/certify/1").number == 1
    assert a_ledger(tmp_path).open("run-2/certify/1").number == 2
    assert len(a_ledger(tmp_path).tests()) == 2


def test_a_resumed_certification_finds_its_test_open_and_spends_nothing_more(tmp_path):
    first = a_ledger(tmp_path).open("run-1/certify/1")
    assert a_ledger(tmp_path).open("run-1/certify/1") == first
    assert len(a_ledger(tmp_path).tests()) == 1


def test_a_promotion_earns_the_next_test_a_larger_share_and_is_counted_once(tmp_path):
    ledger = a_ledger(tmp_path)
    assert math.isclose(ledger.open("a").alpha, 0.10 / 40)
    ledger.close("a", "accept")
    ledger.close("a", "accept")
    assert math.isclose(ledger.open("b").alpha, 0.20 / 40)
    ledger.close("b", "reject")
    assert math.isclose(ledger.open("c").alpha, 0.20 / 40)


def test_when_the_budget_is_spent_no_test_is_opened_any_more(tmp_path):
    ledger = a_ledger(tmp_path, horizon=2)
    assert [ledger.open(name) is None for name in "abc"] == [False, False, True]
    assert ledger.open("a") is not None  # the one that was open may go on


def test_the_budget_belongs_to_the_hidden_tasks_whoever_asks_and_in_whatever_order(tmp_path):
    a_ledger(tmp_path).open("a")
    assert len(a_ledger(tmp_path, hidden=HIDDEN[::-1]).tests()) == 1
    assert len(a_ledger(tmp_path, hidden=HIDDEN[1:]).tests()) == 1  # a task less is the same split
    assert len(a_ledger(tmp_path, hidden=[t for t in some_tasks() if t.split == "train"]).tests()) == 0


def test_a_budget_that_is_edited_later_is_refused(tmp_path):
    a_ledger(tmp_path).open("a")
    with pytest.raises(UserError, match=r"was begun with alpha=0\.1 over 40"):
        a_ledger(tmp_path, horizon=400).open("b")


def test_renaming_or_retagging_hidden_tasks_buys_no_new_budget(tmp_path):
    a_ledger(tmp_path).open("a")
    renamed = [task.model_copy(update={"id": f"new-{task.id}", "tags": ("other",)}) for task in HIDDEN]
    assert a_ledger(tmp_path, hidden=renamed).open("b").number == 2
