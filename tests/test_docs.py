"""The pages in docs/ are true: their Python and commands run, their configs are valid, their options exist.

Blocks of a page are taken in order, in one folder: `python` is run; `pycon` is a doctest; `console` is run, and what it
prints must be what the page says (… stands for anything); `sh` is only parsed, for it needs a broker or a microphone;
`toml` must be a valid config, which is written to the file that its first line names, or a part of one. Only `text` is
not looked at.
"""

import doctest
import os
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import typer.main

import stream_em as sem
from stream_em import cli
from stream_em.configfile import parse_config
from stream_em.models import all_models

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = ("_build", "_tables", "gallery")
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).parts[0] not in GENERATED]
BLOCK = re.compile(r"^```([a-z]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NEEDED = {
    "source": '[source]\ntype = "files"\npath = "data.csv"\n',
    "model": '[model]\ntype = "gaussian-mixture"\n',
}


def blocks(page):
    """Return language, text and line of each block of code."""
    text = page.read_text(encoding="utf-8")
    return [(found[1], found[2], text.count("\n", 0, found.start()) + 2) for found in BLOCK.finditer(text)]


def run_doctest(text, names, place):
    parsed = doctest.DocTestParser().get_doctest(text.replace("…", "..."), {}, place, None, 0)
    parsed.globs, said = names, []
    doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(parsed, out=said.append, clear_globs=False)
    assert not said, "".join(said)


def commands(text):
    """Return the words of each command of ours, and of make, in shell code; pipes and comments are taken apart."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("|") if "|" in words else len(words)
            if words[:1] in (["stream-em"], ["make"]):
                yield words[:end]
            words = words[end + 1 :]


def check_command(words):
    """Raise an error unless the program knows the command, its options and the types of their values."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        return
    group = typer.main.get_command(cli.app)
    context = group.make_context("stream-em", ["--version"], resilient_parsing=True)
    name, command, rest = group.resolve_command(context, words[1:])
    command.make_context(name, rest, parent=context)


def run_console(text, run, place):
    """Run the lines after $, and compare what they print with the lines below them."""
    for example in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = example.partition("\n")
        words = shlex.split(line, comments=True)
        assert words[0] == "stream-em", f"{place}: only stream-em is run, not {line}"
        with mock.patch.dict(os.environ):  # `check` sets a variable, for the process that it usually has for itself
            code, out, err = run(*words[1:])
        expected = expected.replace("…", "...")
        said = out + err
        assert doctest.OutputChecker().check_output(expected or "...", said, OPTIONS), f"{place}: {line}\n{said}"
        assert code == 0 or "error:" in expected, f"{place}: {line} ended with {code}"


def check_config(text):
    """Check a config: a whole one, which is written where its first line says, or a part that is completed here."""
    name = re.match(r"# (\S+\.toml)$", text.partition("\n")[0])
    if name:
        Path(name[1]).write_text(text)
    else:
        text += "".join(part for table, part in NEEDED.items() if f"[{table}]" not in text)
    parse_config(text, "docs.toml", (), {"KAFKA_PASSWORD": "x"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_page_shows_is_so(page, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)  # what is compiled is looked up in its module
    names = vars(module)
    for language, text, line in blocks(page):
        place = f"{page.name}, line {line}"
        if language == "python":
            exec(compile("\n" * (line - 1) + text, page, "exec"), names)
        elif language == "pycon":
            run_doctest(text, names, place)
        elif language == "console":
            run_console(text, run, place)
        elif language == "toml":
            check_config(text)
        elif language == "sh":
            for words in commands(text):
                check_command(words)
        else:
            assert language == "text", f"{place}: nobody checks {language}"


def test_what_cannot_be_so_is_found(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.TyperException, match="--shin"):
        check_command(["stream-em", "show", "run", "--shin"])
    with pytest.raises(AssertionError, match="gaussian-mixture"):
        run_console("$ stream-em models\nnothing\n", run, "here")
    with pytest.raises(AssertionError, match="Expected"):
        run_doctest(">>> 1 + 1\n3\n", {}, "here")
    with pytest.raises(sem.InputError, match="did you mean"):
        check_config("[snapshots]\nkep = 3\n")


def test_the_reference_and_the_models_page_leave_nothing_out():
    reference = (DOCS / "reference" / "python.md").read_text()
    assert [name for name in sem.__all__ if not re.search(rf"^\.\. \S+ {name}$", reference, re.MULTILINE)] == []
    models = (DOCS / "models.md").read_text()
    assert [name for name in all_models() if f"({name})=" not in models] == []
