"""report.html: what a run or several runs were, in one file that needs no network.

`write` makes it from the folders of the runs; page.css and page.js are its style and its curves.
"""

from vaegan_jax.page.render import LARGEST, write

__all__ = ['LARGEST', 'write']
