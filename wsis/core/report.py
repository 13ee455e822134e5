"""What a command tells its user, once, however many processes run it."""

import os


def is_first_process() -> bool:
    """Whether this process is the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def report(*words: object) -> None:
    if is_first_process():
        print(*words, flush=True)
