"""Finding and mending what is wrong with Chakra graphs as they are met in the wild.

Touch it to mend one more kind of mistake. It changes records only where they make the change certain, says
what it did, and knows neither edits nor exports.
"""

from __future__ import annotations

from chakrasim.traces.doctor.draft import Change, Mend
from chakrasim.traces.doctor.groups import read_group_list
from chakrasim.traces.doctor.mend import TITLES, mend

__all__ = ["TITLES", "Change", "Mend", "mend", "read_group_list"]
