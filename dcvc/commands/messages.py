"""Messages in the user's language: English as written in the code, or Chinese by LC_ALL, LC_MESSAGES
or LANG. The one function is `told`; the catalogue is messages_zh.py.

The code says what it says in English. The last place before the terminal asks for the text's form in
the user's language: an entry of the very text, or else a template that fits it:

    out.mp4: found a folder, needed the name of a file
    {where}: found {found}, needed {needed}              what is in the braces is looked up in turn

What the catalogue does not have stays English.
"""

import functools
import os
import re
import sys


def in_chinese() -> bool:
    """Whether the user's language is Chinese, and stdout can show it."""
    # As gettext has it: the first of these that is set decides.
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    if not next(filter(None, names), "").lower().startswith("zh"):
        return False
    try:
        "中".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def told(text: str) -> str:
    """A message in the user's language."""
    return _chinese(text) if text and in_chinese() else text


def _chinese(text: str) -> str:
    from dcvc.commands.messages_zh import TEXTS  # late: few need it

    if text in TEXTS:
        return TEXTS[text]
    for pattern, form in _templates():
        fits = pattern.fullmatch(text)
        if fits:
            return form.format(**{name: _chinese(part) for name, part in fits.groupdict().items()})
    return text


@functools.cache
def _templates() -> list[tuple[re.Pattern, str]]:
    """(what fits a template, its Chinese form). The one with the most words of its own is tried first."""
    from dcvc.commands.messages_zh import TEMPLATES

    def fixed(template: str) -> str:
        return re.sub(r"{\w+}", "", template)

    made = []
    for template in sorted(TEMPLATES, key=lambda one: -len(fixed(one))):
        parts = re.split(r"{(\w+)}", template)
        # Every second part is a name. Fields are as short as they can be, but for what comes before
        # the last clause of an error, which may have clauses of its own.
        pattern = "".join(re.escape(part) if number % 2 == 0 else
                          f"(?P<{part}>.+)" if part == "problem" else f"(?P<{part}>.+?)"
                          for number, part in enumerate(parts))
        made.append((re.compile(pattern, re.S), TEMPLATES[template]))
    return made
