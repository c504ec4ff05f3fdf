"""Empty on Faust: the empty stage in the same Faust app that runs the controller, `streams/faust_app.py`.

`faust -A loadtest.bench.peers.empty_on_faust:app worker`, with the settings of a role. It takes records in batches and
keeps positions, as our engine does: a plain agent would be slower and lose records (docs/faust.md).
"""

from loadtest.bench.peers.empty import Empty
from spineloop.on_faust import place
from spineloop.settings import Settings
from streams import faust_app

app = faust_app.app(Empty(), place(Settings.read(), Empty.name))
