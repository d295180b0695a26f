"""What the tests of `launch` run on Ray workers; imported there by name."""

import os
import signal
import time
from pathlib import Path

from jobs.launch import scribe


def note_and_make(payload, context):
    """Note a bit of everything on rank 0, and make a folder."""
    out = Path(payload.recipe.project, "made")
    with scribe(payload, context) as run:
        if run is not None:
            for step in (1, 2):
                run.metrics({"loss": 1 / step}, step=step)
            run.image(b"picture", "samples/one.png")
            run.tag("colour", "red")
            run.text("said", "notes/text.txt")
            out.mkdir()
            (out / "model.json").write_text("{}")
            (out.parent / "files").mkdir()
            (out.parent / "files" / "a.txt").write_text("a")
            run.artifact(out.parent / "files", "more")
    told = {"here": str(payload.extra["read"]), "autoencoder": payload.recipe.autoencoder.path}
    return {"finished": True, "tags": {"vdp.folder": str(out)}, **told}


def end_when_told(payload, context):
    """Tell the driver to end, as a cluster does that takes the machine away, and wait for it."""
    os.kill(payload.extra["driver"], signal.SIGTERM)
    while not context.should_stop():
        time.sleep(0.05)
    return {"finished": False}
