"""`pocketbert compress RECIPE` in which the second process finds its disk full: `torchrun --nproc_per_node 2 … RECIPE`."""

from __future__ import annotations

import errno
import sys
from typing import Any
from unittest.mock import patch

from compress import processes
from compress.training import loop
from pocketbert.cli import main


def fails_on_the_second(*arguments: Any, share_of: Any = loop.share_of, **options: Any) -> Any:
    if processes.rank() == 1:
        raise OSError(errno.ENOSPC, "No space left on device", "checkpoint.pt")
    return share_of(*arguments, **options)


if __name__ == "__main__":
    sys.argv[1:] = ["compress", *sys.argv[1:]]
    with patch.object(loop, "share_of", fails_on_the_second):
        main()
