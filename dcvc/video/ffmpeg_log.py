"""What FFmpeg says while it decodes.

Its H.264 decoder neither flags nor refuses a picture whose reference is missing, or whose headers contradict the
others: it only logs an error and takes another picture instead.
"""

import threading

import av

# What it says of a slice whose references are not those that its encoder had. (Much else that it logs as an error is
# harmless, and met in good files.)
REFERENCES = ("reference picture missing", "Missing reference picture", "co located POCs unavailable",
              "illegal modification_of_pic_nums", "illegal reordering_of_pic_nums", "reference count overflow",
              "number of reference frames", "Frame num gap")

_lock = threading.Lock()
_listeners = 0
_before: tuple[int | None, bool] = None, True


class Complaints:
    """Within `with`, what H.264's decoder logs of wrong references in this thread; FFmpeg's log is otherwise as it was.

    Decoders with threads of their own (threads other than 1) log there: nothing is heard of them.
    """

    logs: list  # all that FFmpeg has logged in this thread since `with`

    def __enter__(self) -> "Complaints":
        global _listeners, _before
        with _lock:
            if _listeners == 0:
                _before = av.logging.get_level(), av.logging.get_skip_repeated()
                if _before[0] is None or _before[0] < av.logging.ERROR:
                    av.logging.set_level(av.logging.ERROR)
                av.logging.set_skip_repeated(False)
            _listeners += 1
        self._capture = av.logging.Capture()
        self.logs = self._capture.__enter__()
        return self

    def __exit__(self, *reason) -> None:
        global _listeners
        self._capture.__exit__(*reason)
        with _lock:
            _listeners -= 1
            if _listeners == 0:
                av.logging.set_level(_before[0])
                av.logging.set_skip_repeated(_before[1])

    def since(self, count: int) -> str | None:
        """The first one after as many messages as `logs` once held."""
        return next((message.strip() for _, name, message in self.logs[count:]
                     if name == "h264" and any(words in message for words in REFERENCES)), None)
