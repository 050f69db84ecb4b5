"""What newer versions of Python have built in, for modules that also run in an old environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    zip_equal = zip
else:

    def zip_equal(*sequences):
        """`zip(..., strict=True)`: raises ValueError where one is longer than another."""
        rows = [list(each) for each in sequences]
        if len({len(each) for each in rows}) > 1:
            raise ValueError("sequences of {} elements".format(" and ".join(str(len(each)) for each in rows)))
        return zip(*rows)
