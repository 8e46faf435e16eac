"""What FFmpeg's H.264 decoder logs while it decodes.

Where a picture's reference is missing, or its headers contradict the others, this decoder neither
refuses nor flags the picture. It logs an error, predicts from another picture and goes on: the
result looks plausible and is wrong. So the reader listens to the log. FFmpeg has one log level for
the whole process, and repeated messages are left out by default. Both are changed while anybody
listens, and set back after the last one; messages are told apart by the thread that they came from.
"""

import threading

import av

# Parts of the messages about slices whose references are not those that the encoder had. (Most of
# the other errors that FFmpeg logs are harmless and occur in good files.)
REFERENCE_ERRORS = ("reference picture missing", "Missing reference picture",
                    "co located POCs unavailable", "illegal modification_of_pic_nums",
                    "illegal reordering_of_pic_nums", "reference count overflow",
                    "number of reference frames", "Frame num gap")


class _SharedLogLevel:
    """FFmpeg's log level: while there is a listener, errors are logged each time they occur."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners = 0
        self._level_before: int | None = None
        self._skipped_repeated_before = True

    def add_listener(self) -> None:
        with self._lock:
            # Readers in several threads share the level: only the first and the last change it.
            if self._listeners == 0:
                self._level_before = av.logging.get_level()
                self._skipped_repeated_before = av.logging.get_skip_repeated()
                # A user who wants to hear more than errors goes on hearing it.
                if self._level_before is None or self._level_before < av.logging.ERROR:
                    av.logging.set_level(av.logging.ERROR)
                av.logging.set_skip_repeated(False)
            self._listeners += 1

    def remove_listener(self) -> None:
        with self._lock:
            self._listeners -= 1
            if self._listeners == 0:
                av.logging.set_level(self._level_before)
                av.logging.set_skip_repeated(self._skipped_repeated_before)


_level = _SharedLogLevel()


class FFmpegLog:
    """`with FFmpegLog() as log:` holds what FFmpeg logs in this thread inside the block.

    Decoders that use threads of their own (threads other than 1) log there, unheard.
    messages: (level, name of the decoder, text), the oldest first.
    """

    def __init__(self) -> None:
        self._capture = av.logging.Capture()
        self.messages: list[tuple[int, str, str]] = self._capture.logs

    def __enter__(self) -> "FFmpegLog":
        _level.add_listener()
        self._capture.__enter__()
        return self

    def __exit__(self, *reason) -> None:
        self._capture.__exit__(*reason)
        _level.remove_listener()

    def reference_error(self, since: int) -> str | None:
        """The first message about wrong references in `messages[since:]`, None if there is none."""
        return next((text.strip() for _, name, text in self.messages[since:]
                     if name == "h264" and any(part in text for part in REFERENCE_ERRORS)), None)
