"""README and documentation: links lead somewhere, code runs, the site builds."""

import ast
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config
from page_code import RUN, blocks_of, cells_of, commands_of, make_place, run_page, run_python
from pages import DOCS
from trainer import REPOSITORY, forget_runs

from effvit_mm.attention import mechanism

PAGES = [
    *sorted(REPOSITORY.glob('*.md')),
    *sorted(DOCS.rglob('*.md')),
    *sorted((REPOSITORY / 'configs').rglob('*.md')),
]
RUNNING = [page for page in PAGES if any(block.title == RUN for block in blocks_of(page))]
NOTEBOOKS = sorted((REPOSITORY / 'notebooks').glob('*.ipynb'))
LINK = re.compile(r'\]\(([^)\s]+)\)')
CODE = re.compile(r'^( *)```.*?^\1```$|`[^`\n]*`', re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@cache
def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings: those that are the same on GitHub and in the site."""
    text = re.sub(r'^( *)```.*?^\1```$', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = set()
    for heading in re.findall(r'^#+ (.+)$', text, re.MULTILINE):
        words = re.sub(r'[^\w\s-]', '', re.sub(r'\]\([^)]*\)', '', heading)).strip().lower()
        on_github, in_site = words.replace(' ', '-'), re.sub(r'[-\s]+', '-', words)
        if on_github == in_site:
            found.add(on_github)
    return found


def fault_of(link: str, page: Path) -> str | None:
    """What is wrong with a link within the repository; None for a good one."""
    target, _, anchor = link.partition('#')
    path = (page.parent / target).resolve() if target else page
    if not path.exists():
        return f'{link}: there is no {target}'
    if anchor.startswith('effvit_mm.'):  # of the reference, which the site makes
        listed = re.findall(r'^::: (\S+)$', path.read_text(), re.MULTILINE)
        return None if any(anchor.startswith(f'{m}.') for m in listed) else f'{link}: not listed'
    if anchor and anchor not in anchors_of(path):
        return f'{link}: no such heading; there are {sorted(anchors_of(path))}'
    return None


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    links = LINK.findall(CODE.sub('', page.read_text()))
    inner = [link for link in links if not re.match(r'[a-z]+:', link)]
    faults = [fault for link in inner if (fault := fault_of(link, page))]
    assert not faults, '\n'.join(faults)


@pytest.mark.parametrize('notebook', NOTEBOOKS, ids=name_of)
def test_links_of_notebooks_lead_somewhere(notebook):
    links = LINK.findall(notebook.read_text())
    assert links and not [link for link in links if fault_of(link, notebook)]


@pytest.mark.parametrize('wrong', ['no.md', 'reid.md#nothing', 'reference/reid.md#effvit_mm.x.Y'])
def test_a_link_that_leads_nowhere_is_found(wrong):
    assert fault_of(wrong, DOCS / 'index.md')


@cache
def known_flags() -> set[str]:
    sources = [
        p
        for room in ('tools', 'benchmarks', 'effvit_mm')
        for p in (REPOSITORY / room).rglob('*.py')
    ]
    return {flag for p in sources for flag in re.findall(r'--[a-z][a-z-]+', p.read_text())}


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_code_is_of_this_version(page):
    """Python parses; programs, configs and flags of commands exist; titles keep the rule."""
    flags = known_flags()
    for block in blocks_of(page):
        where = f'{page.name}:{block.line}'
        titled = block.title in ('', RUN) or re.match(r'Not run: \w', block.title)
        assert titled, f'{where}: title {block.title!r}'
        if block.language == 'python':
            ast.parse(block.text, where)
        if block.language not in ('bash', 'shell'):
            continue
        for command in commands_of(block.text):
            words = shlex.split(command, comments=True)
            for word in words:
                if re.fullmatch(r'(tools|configs)/[\w./-]+\.(py|sh)', word):
                    assert (REPOSITORY / word).is_file(), f'{where}: {word}'
            ours = [w for w in words if w.startswith(('tools/', 'benchmarks.'))]
            given = {w.partition('=')[0] for w in words if re.match(r'--[a-z]', w)}
            assert not ours or given <= flags, f'{where}: {given - flags}'


def test_checkpoints_that_are_named_are_those_that_training_writes():
    """``work_dirs/<config>/epoch_<last>.pth``: what follows a training in a recipe is there."""
    configs = {path.stem: path for path in (REPOSITORY / 'configs').rglob('*.py')}
    named = {
        each
        for page in PAGES
        for each in re.findall(r'work_dirs/([\w.-]+)/epoch_(\d+)\.pth', page.read_text())
        if each[0] in configs
    }
    assert len(named) >= 3  # the README's
    for name, epoch in named:
        cfg = Config.fromfile(configs[name])
        assert cfg.train_cfg.max_epochs == int(epoch), f'{name}: epoch_{epoch}.pth'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Pages share what they make: digits are drawn once."""
    return make_place(tmp_path_factory.mktemp('reader'))


@pytest.mark.parametrize('page', RUNNING, ids=name_of)
def test_code_runs(page, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(mechanism, 'MECHANISMS', dict(mechanism.MECHANISMS))  # pages register some
    assert run_page(page, monkeypatch.setenv)


@pytest.mark.parametrize('notebook', NOTEBOOKS, ids=name_of)
def test_notebooks_run(notebook, place, monkeypatch):
    monkeypatch.chdir(place)
    forget_runs()
    names = {'__name__': notebook.stem}
    for number, cell in enumerate(cells_of(notebook), 1):
        run_python(cell, names, f'{notebook.name}, code cell {number}')


def test_notebooks_are_kept_without_outputs():
    assert len(NOTEBOOKS) == 3
    assert not [p.name for p in NOTEBOOKS if '"output_type"' in p.read_text()]


def test_the_drawings_are_those_of_their_program(tmp_path):
    """Written again they are the same, byte for byte."""
    program = (DOCS / 'site' / 'drawings.py').read_text()
    code = program.replace("Path(__file__).resolve().parents[1] / 'images'", repr(tmp_path))
    run_python(
        code.replace(repr(tmp_path), f'Path({str(tmp_path)!r})'), {'__name__': '__main__'}, ''
    )
    drawn = sorted(p.name for p in tmp_path.iterdir())
    assert drawn == sorted(p.name for p in (DOCS / 'images').glob('*.svg'))
    for name in drawn:
        assert (tmp_path / name).read_bytes() == (DOCS / 'images' / name).read_bytes(), name


@pytest.mark.skipif(
    not (find_spec('mkdocs') and find_spec('mkdocstrings') and find_spec('latex2mathml')),
    reason="the site needs MkDocs: `pip install -e '.[docs]'`",
)
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path):
    site = tmp_path / 'site'
    run = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-q', '-d', str(site)],
        cwd=REPOSITORY,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1', 'PYTHONDONTWRITEBYTECODE': '1'},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    for page in site.rglob('*.html'):
        html = page.read_text()
        fetched = re.findall(r'<(?:script|img|iframe)[^>]* src="?(https?:[^" >]+)', html)
        fetched += re.findall(
            r'<link[^>]* rel="?(?:stylesheet|preconnect|icon)[^>]*"?https?:', html
        )
        assert not fetched, f'{page.name}: {fetched}'
        assert 'arithmatex' not in html and '$$' not in html, f'{page.name}: an equation is left'
    assert '<math' in (site / 'concepts' / 'linear.html').read_text()
    assert (site / 'configs' / 'pslt' / 'pslt-tiny_digits.py.txt').is_file()
