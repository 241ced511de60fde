"""What ends a run that began well."""


class RunFailed(RuntimeError):
  """The run cannot go on, for the reason in the message: its folder is gone, or the disk is full.

  Scripts end with exit code 3, see command.run.
  """
