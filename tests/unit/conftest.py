"""Settings of this tier."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is slow, not wrong.
# CI looks at the same examples each time, so that it judges the change and not the draw; others go on exploring.
settings.register_profile("headgate", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("headgate")
