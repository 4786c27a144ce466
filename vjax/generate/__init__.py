"""Answers from a model: scores of candidates and greedy text, from one prefill of the prompt."""

from vjax.generate.answer import answer
from vjax.generate.ask import ask
from vjax.generate.greedy import greedy
from vjax.generate.prefill import Prompt, prefill
from vjax.generate.score import candidate_logprobs

__all__ = ["Prompt", "answer", "ask", "candidate_logprobs", "greedy", "prefill"]
