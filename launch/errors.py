class JobStartError(Exception):
    """A job cannot be started; the message says why and what to do.

    Attributes:
        code: the exit code of ``distoptrun``.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code
