"""Files of data sets on the hub whose terms have to be accepted first, by huggingface_hub."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from stages.params.prompt_sources import hub_base


def download_gated(dataset: str, path: str, part: Path, limit: int, name: str) -> None:
    """Fills `part` with a file of a data set, of at most `limit` bytes, with the token that huggingface_hub knows.

    ValueError with the page of the terms and the command if they are not accepted, and for whatever else ends it.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if not path:
        raise ValueError(f"{dataset}: the name of its file is not known to us")
    endpoint = hub_base()
    page = f"{endpoint}/datasets/{dataset}"
    ask = f"accept its terms on {page}, then: hf auth login && python -m stages.fetch {name}"
    try:
        size = get_hf_file_metadata(hf_hub_url(dataset, path, repo_type="dataset", endpoint=endpoint)).size
        if size is None or size > limit:
            raise ValueError(f"{page}: {path} has {size} bytes, and it may have {limit}")
        part.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=part.parent, prefix=".hub-") as folder:
            file = hf_hub_download(dataset, path, repo_type="dataset", endpoint=endpoint, local_dir=folder)
            shutil.move(file, part)
    except GatedRepoError:
        raise ValueError(f"{dataset} is gated: {ask}") from None
    except LocalEntryNotFoundError as error:  # of a machine without a network
        raise ValueError(f"{page}: no answer ({type(error).__name__})") from None
    except EntryNotFoundError:
        raise ValueError(f"{page}: there is no file {path!r} any more") from None
    except RepositoryNotFoundError:
        raise ValueError(f"{page}: not there, or not for you: {ask}") from None
    except (HTTPError, OSError) as error:
        raise ValueError(f"{page}: no answer ({type(error).__name__})") from None
