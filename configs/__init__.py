"""One config file per data set; each gives the config of any method: --config=digits:cvae_gan."""

import pathlib

FOLDER = pathlib.Path(__file__).parent
NAMES = tuple(sorted(p.stem for p in FOLDER.glob('*.py') if p.stem not in ('base', '__init__')))
