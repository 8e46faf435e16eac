"""Messages in Chinese: the catalogue has all of the main commands, and nothing that the code no longer says."""

import re
from pathlib import Path

import pytest

from dcvc.cli import main
from dcvc.commands.catalog import COMMANDS, parser_of
from dcvc.commands.messages import told
from dcvc.commands.messages_zh import OPTIONS, PURPOSES, TEMPLATES, TEXTS

# The commands whose help is in the catalogue; of the others the frequent errors and results are.
MAIN = ("demo", "tune", "models", "encode", "decode", "mux", "info", "prepare", "index")
CHINESE = re.compile("[\u4e00-\u9fff]")
SOURCES = "\n".join(path.read_text("utf-8") for path in sorted(Path(main.__code__.co_filename).parent.rglob("*.py"))
                    if path.name != "messages_zh.py")


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")


def help_texts(name: str) -> set[str]:
    """All that `dcvc NAME --help` says in words."""
    parser = parser_of(name)
    groups = {text for group in parser._action_groups for text in (group.title, group.description)}
    return {text for text in {parser.description, *groups, *(action.help for action in parser._actions)} if text}


def test_the_catalogue_holds_the_help_of_the_main_commands_and_no_more():
    said = set().union(*map(help_texts, MAIN))
    assert said - TEXTS.keys() == set()
    assert {text for text in OPTIONS if text not in said and text != "usage: "} == set()
    assert set(PURPOSES) == {parser_of(name).description for name in MAIN}
    assert {text for _, text in COMMANDS.values()} <= TEXTS.keys()


def test_every_entry_is_chinese_and_every_template_has_the_same_fields():
    for text, form in (TEXTS | TEMPLATES).items():
        assert CHINESE.search(form), text
    for template, form in TEMPLATES.items():
        assert sorted(re.findall(r"{(\w+)}", template)) == sorted(re.findall(r"{(\w+)}", form)), template
        # The longest clause of its own words still stands somewhere in the code, or in argparse.
        piece = max(re.split(r"{\w+}|; ", template), key=len).strip(" ;:,().")
        words = re.escape(piece).replace(r"\ ", r'(?:\s|"\s*\n\s*f?")+')
        assert re.search(words, SOURCES) or "arguments are required" in piece or "expected one" in piece, template


def test_help_errors_and_results_are_chinese_by_lang(chinese, capsys, tmp_path, monkeypatch):
    with pytest.raises(SystemExit):
        main(["encode", "--help"])
    text = capsys.readouterr().out
    assert text.startswith("用法：dcvc encode")
    assert "每秒比特数：500k、1.5M" in text
    assert "（默认：auto）" in text
    assert main(["--help"]) == 0
    assert "将视频编码为 dcvc 码流" in capsys.readouterr().out
    assert main(["encode", str(tmp_path / "none.mp4"), str(tmp_path / "out.dcvc")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("错误：")
    assert "none.mp4" in error
    assert main(["prepare", "a", "b", "--processes", "0"]) == 1
    assert capsys.readouterr().err == "错误：--processes：现为 0，需要 至少 1\n"
    # Another variable comes first; another language than Chinese is English.
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    assert main(["prepare", "a", "b", "--processes", "0"]) == 1
    assert capsys.readouterr().err == "error: --processes: found 0, needed at least 1\n"


@pytest.mark.parametrize(("english", "form"), [
    ("error: out.mp4: exists and is not a dcvc stream, nothing was done; give another name, or --overwrite to "
     "replace it", "错误：out.mp4：已存在且不是 a dcvc stream，未作任何改动；请另取名称，或用 --overwrite 替换"),
    ("error: dcvc try: argument --size: found 'smal', needed one of full, small; did you mean 'small'?; dcvc try "
     "--help lists the options",
     "错误：dcvc try：参数 --size：现为 'smal'，需要以下之一：full, small；是否想输入 'small'？；dcvc try --help "
     "列出各选项"),
    ("out.dcvc: 3 frames, 1149 bytes (99 of the container), 0.4987 bpp (estimate 0.4522), 76.6 kbit/s, asked 80k, "
     "verified", "out.dcvc：3 帧，1149 字节（其中容器 99），0.4987 bpp（估计 0.4522），76.6 kbit/s，目标 80k，已验证"),
    ("what nobody translated: stays", "what nobody translated: stays")])
def test_templates_are_filled_from_the_inside(chinese, english, form):
    assert told(english) == form
