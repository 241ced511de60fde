"""Models on the Hugging Face Hub: each repository holds a model.zip and its card, README.md.

It needs huggingface_hub: pip install vaegan_jax[hub]. The client finds your token by itself.
"""

import os
import pathlib
import re
from typing import Any

SCHEME, MODEL = 'hf://', 'model.zip'


def repository(source: str) -> str:
  """USER/NAME of hf://USER/NAME or USER/NAME; ValueError for anything else."""
  name = source.removeprefix(SCHEME)
  if not re.fullmatch(r'[\w-][\w.-]*/[\w-][\w.-]*', name):
    raise ValueError(f'{source!r} is no repository: write hf://USER/NAME')
  return name


def client() -> Any:
  """The module huggingface_hub; ValueError if it is not installed."""
  try:
    import huggingface_hub
  except ImportError as e:
    raise ValueError('huggingface_hub is not installed: run pip install "vaegan_jax[hub]"') from e
  return huggingface_hub


def upload(path: str | os.PathLike[str], repo: str, files: dict[str, bytes]) -> str:
  """Commits a model's zip, and `files` beside it, to a repository; its address.

  A new repository is private: its owner may open it on the service's page.

  Raises OSError with the service's answer if it refuses.
  """
  hub, repo = client(), repository(repo)
  made = {MODEL: str(path), **files}
  operations = [hub.CommitOperationAdd(name, content) for name, content in made.items()]
  api = hub.HfApi()
  try:
    address = api.create_repo(repo, private=True, exist_ok=True)
    api.create_commit(repo, operations, commit_message='A model of vaegan_jax')
  except Exception as e:
    raise OSError(f'{repo} was not uploaded: {_said(e)}') from e
  return str(address)


def fetched(source: str) -> pathlib.Path:
  """The path of the model.zip of hf://USER/NAME, in the client's cache.

  Raises OSError with the service's answer if there is none.
  """
  hub, repo = client(), repository(source)
  try:
    return pathlib.Path(hub.hf_hub_download(repo, MODEL))
  except Exception as e:
    raise OSError(f'{source} was not fetched: {_said(e)}') from e


def _said(error: Exception) -> str:
  """What an error says, in one line."""
  return f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
