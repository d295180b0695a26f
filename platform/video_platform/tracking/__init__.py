"""Where runs are recorded: parameters, metrics, artifacts, and what was made from what.

    tracker = open_tracker(TrackingConfig(), project=Path("project"))
    with tracker.start("cache", name="tiny", params=tree, parents={"source": source_id}) as run:
        run.metrics({"clips": 64}, step=1)

Importing this package loads no MLflow; opening a tracker does.
"""

from video_platform.tracking.config import TrackingConfig
from video_platform.tracking.lineage import LineageNode, as_rich_tree, lineage
from video_platform.tracking.redaction import redact, redact_text
from video_platform.tracking.run import Run
from video_platform.tracking.tracker import Tracker, open_tracker

__all__ = [
    "LineageNode",
    "Run",
    "Tracker",
    "TrackingConfig",
    "as_rich_tree",
    "lineage",
    "open_tracker",
    "redact",
    "redact_text",
]
