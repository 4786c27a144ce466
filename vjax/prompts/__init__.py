"""What a model is asked: the Prompt."""

from vjax.prompts.prompt import Prompt

__all__ = ["Prompt"]
