"""The published tables as data, the runner that fills them, and verdicts on the claims that they support."""
