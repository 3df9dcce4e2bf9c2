"""What a user can cause and mend."""


class EvaluationError(RuntimeError):
    """A text, a task or a setting that cannot be evaluated; the message says why."""
