class Lines:
    """Cuts a stream of bytes into whole lines."""

    def __init__(self) -> None:
        self._open: list[bytes] = []

    @property
    def open(self) -> bytes:
        """What has no line end yet."""
        return b"".join(self._open)

    def add(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends."""
        first, *others = data.split(b"\n")
        self._open.append(first)
        if not others:
            return []
        whole = [self.open, *others[:-1]]
        self._open = [others[-1]]
        return whole

    def rest(self) -> list[bytes]:
        """The unfinished line at the end of the stream, if there is one."""
        rest, self._open = self.open, []
        return [rest] if rest else []
