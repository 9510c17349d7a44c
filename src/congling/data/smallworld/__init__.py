"""小世界: an original, endless corpus of small documents that knows its facts, its form and its entropy."""

from congling.data.smallworld.check import Verdict, check
from congling.data.smallworld.entropy import entropy_floor
from congling.data.smallworld.generator import generate
from congling.data.smallworld.questions import Problem, problems

__all__ = ["Problem", "Verdict", "check", "entropy_floor", "generate", "problems"]
