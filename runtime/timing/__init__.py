"""Cycles: an event-driven simulation of a program's steps that needs no values (docs/timing.md)."""

from .result import StepCost
from .simulator import Simulator, simulate

__all__ = ["Simulator", "StepCost", "simulate"]
