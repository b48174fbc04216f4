"""Graders: how good an output is, and why."""

from harness.graders.agreement import AgreementGrader
from harness.graders.checks import AtMost, CommandPasses, FitsSchema, Holds, Lacks
from harness.graders.documents import CodeBlocksRun, LinksResolve, NamesExist
from harness.graders.exact import ExactGrader
from harness.graders.judge import Judge
from harness.graders.marks import Checker
from harness.graders.metric import MetricGrader
from harness.graders.patches import DiffInScope
from harness.graders.person import Person
from harness.graders.rubric import RubricGrader, RubricVerifier
from harness.graders.tables import Column, Fresh, Reconciles, RowCount, Table, Unique

__all__ = [
    "AgreementGrader",
    "AtMost",
    "Checker",
    "CodeBlocksRun",
    "Column",
    "CommandPasses",
    "DiffInScope",
    "ExactGrader",
    "FitsSchema",
    "Fresh",
    "Holds",
    "Judge",
    "Lacks",
    "LinksResolve",
    "MetricGrader",
    "NamesExist",
    "Person",
    "Reconciles",
    "RowCount",
    "RubricGrader",
    "RubricVerifier",
    "Table",
    "Unique",
]
