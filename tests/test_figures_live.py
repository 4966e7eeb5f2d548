"""The training curves that are redrawn while the network trains."""

import nbformat
import pytest
import synthetic_records as synthetic
from nbclient import NotebookClient

from robust_mnist.figures import LiveCurves


PNG = b"\x89PNG\r\n"


def grow(live, records):
    history = synthetic.history(epochs=10 * records)
    for count in range(1, records + 1):
        live(history.head(count))
        yield count
    live.finish(history)


def test_a_terminal_gets_a_new_file_every_k_records_and_one_at_the_end(tmp_path):
    path = tmp_path / "figures" / "training.png"
    seen, at = [], []
    live = LiveCurves(every=3, path=path)
    for count in grow(live, 7):
        now = path.stat().st_mtime_ns if path.exists() else None
        if seen and now != seen[-1]:
            at.append(count)
        seen.append(now)
    assert at == [3, 6]
    assert path.stat().st_mtime_ns != seen[-1]
    assert path.read_bytes().startswith(PNG)
    assert [one.name for one in path.parent.iterdir()] == ["training.png"]


def test_nothing_is_redrawn_when_the_last_record_is_already_shown(tmp_path):
    live = LiveCurves(every=2, path=tmp_path / "training.png")
    for _ in grow(live, 4):
        pass
    shown = (tmp_path / "training.png").stat().st_mtime_ns
    live.finish(synthetic.history(epochs=40))
    assert (tmp_path / "training.png").stat().st_mtime_ns == shown


def test_the_records_of_training_need_no_table(tmp_path):
    LiveCurves(every=1, path=tmp_path / "a.png")(synthetic.history(epochs=30).to_dict("records"))
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_refreshing_every_0_records_is_refused():
    with pytest.raises(ValueError, match="every 1 record or more, got every=0"):
        LiveCurves(every=0)


class Counting(NotebookClient):
    """Counts what a cell tells its notebook."""

    def process_message(self, msg, cell, cell_index):
        self.seen = [*getattr(self, "seen", []), (msg["msg_type"], msg["content"])]
        return super().process_message(msg, cell, cell_index)


# A real training: six records, of which every second is drawn.
NOTEBOOK = """
import robust_mnist as rm

split = rm.split(rm.load("mnist"), "lab")
settings = rm.TrainSettings(sizes=(784, 8, 10), epochs=6, record_every=1)
rm.train(settings, split.train, split.valid, on_record=[rm.LiveCurves(every=2)])
None
"""


def test_a_notebook_sees_the_curves_refreshed_in_place():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    client = Counting(notebook, timeout=120, kernel_name="python3")
    client.execute()
    kinds = [kind for kind, _ in client.seen]
    shown = [content for kind, content in client.seen if kind == "display_data"]
    assert len(shown) == 3
    assert all("image/png" in content["data"] for content in shown)
    assert kinds.count("clear_output") == 3
    waits = [content["wait"] for kind, content in client.seen if kind == "clear_output"]
    assert all(waits)
    # In the end one picture stands in the cell, not three.
    assert len(notebook.cells[0].outputs) == 1
