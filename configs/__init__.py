"""One config file per data set. Each has a config for every method: --config=digits:cvae_gan."""

import pathlib

FOLDER = pathlib.Path(__file__).parent
NAMES = tuple(sorted(p.stem for p in FOLDER.glob('*.py') if p.stem not in ('base', '__init__')))
