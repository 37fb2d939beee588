"""The memory of a process that does nothing but serve."""

import subprocess
import sys

CODE = """
import gc
from mlhost.cli import memory

memory.keep_out_of_collections()
at_first = gc.get_freeze_count()
gc.collect()
print(at_first > 10_000, gc.get_freeze_count() == at_first)
import sklearn.svm
gc.collect()
later = gc.get_freeze_count()
gc.unfreeze()
gc.collect()
print(later > 2 * at_first, gc.get_freeze_count() > 2 * at_first)
"""


def test_no_collection_goes_over_what_is_loaded_at_the_start_or_later_also_after_a_workspace_was_closed() -> None:
    told = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert told.stdout == "True True\nTrue True\n"
