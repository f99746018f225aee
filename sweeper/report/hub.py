"""A sweep on the Hugging Face Hub: its observations as a data set, its report as the card."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from sweeper.errors import SpecError
from sweeper.record.record import Record
from sweeper.report.report import write

CARD = """---
license: other
pretty_name: {name}
tags: [scaling-laws, isoskill]
configs:
- config_name: default
  data_files: observations.parquet
---

"""
"""Head of the card, in the Hub's format; the Markdown report follows it."""


def push(results: Record, repository: str, *, private: bool = True) -> str:
    """Upload observations, fits, spec and report as a data set of the Hub.

    Args:
        results: a sweep directory whose sweep has losses.
        repository: ``user/name``; made if it is not there.
        private: whether a new repository can be seen by its owner alone.

    Returns:
        The URL of the commit.

    Raises:
        SpecError: nothing to upload yet, or the name is not ``user/name``.
        huggingface_hub.errors.HfHubHTTPError: the Hub refused; it says why.
    """
    if repository.count("/") != 1:
        raise SpecError(f"push_to_hub: {repository!r} is not of the form user/name")
    if not results.fittable:
        raise SpecError("push_to_hub: no trial has finished yet, there is nothing to upload")
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="isoskill-") as name:
        _gather(results, Path(name))
        done = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=name,
            commit_message=f"Upload the sweep {results.sweep.name}",
        )
    return str(done.commit_url)


def _gather(results: Record, folder: Path) -> None:
    """What is uploaded: nothing that names the machine, so neither ledger nor checkpoints."""
    fits = results.fit()
    results.table.to_parquet(folder / "observations.parquet", index=False)
    (folder / "fits.json").write_text(fits.to_json(), encoding="utf-8")
    shutil.copyfile(results.directory.spec, folder / "sweep.yaml")
    write(results, folder / "report.html", fits)
    text = write(results, folder / "README.md", fits).read_text(encoding="utf-8")
    head = CARD.format(name=repr(results.sweep.name))
    (folder / "README.md").write_text(head + text, encoding="utf-8")
