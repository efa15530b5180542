"""What MkDocs does for this site besides its plugins: equations, configs, pages to come.

Equations become MathML when the site is built, so that no script draws them. Pages link to configs,
findings and notebooks as they lie in the repository; those get a place in the site.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# Files of the repository that the site has under their own paths, pages where they are Markdown.
REPOSITORY_FILES = (
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    'configs/**/*.md',
    'configs/**/*.py',
    'findings/*',
    'notebooks/*.ipynb',
)
PAGES = {
    'CHANGELOG.md': 'changelog.md',
    'CONTRIBUTING.md': 'contributing.md',
    'SECURITY.md': 'security.md',
}

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
# Roles of docstrings: the name in code says it all.
ROLE = re.compile(r':(?:attr|class|data|func|meth|mod):(?=<code>)')
LINK = re.compile(r'(\]\()((?:\.\./)*)([^)\s:]+)(?=\))')


def on_config(config: Any) -> Any:
    """Leave out of the navigation what may be missing, and is."""
    there = {page.name for page in Path(config['docs_dir']).glob('*.md')}
    there |= {PAGES[path.name] for path in ROOT.glob('*.md') if path.name in PAGES}
    missing = set(config['extra']['may_be_missing']) - there
    config['nav'] = _without(config['nav'], missing)
    return config


def _without(entry: Any, missing: set[str]) -> Any:
    """An entry of the navigation, a page, a list or a dict of one title, without some pages."""
    if isinstance(entry, list):
        kept = (_without(item, missing) for item in entry)
        return [item for item in kept if item]
    if isinstance(entry, dict):
        kept = {title: _without(item, missing) for title, item in entry.items()}
        return {title: item for title, item in kept.items() if item}
    return None if entry in missing else entry


def on_files(files: Files, config: Any) -> Files:
    """Add files of the repository that pages link to; source code as text to look at."""
    for pattern in REPOSITORY_FILES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            file = File.generated(config, PAGES.get(name, name), abs_src_path=str(path))
            if path.suffix in ('.py', '.sh'):
                file.dest_uri += '.txt'
            files.append(file)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave ``docs/`` into links within the site."""
    depth = page.file.src_uri.count('/')

    def within(match: re.Match) -> str:
        up, target = match[2].count('../'), match[3]
        if up == depth and target.startswith('docs/'):  # from configs/, to docs/
            return f'{match[1]}{match[2]}{target.removeprefix("docs/")}'
        if up == depth + 1:  # the repository's own folder
            name, _, anchor = target.partition('#')
            name = PAGES.get(name, name) + (f'#{anchor}' if anchor else '')
            return f'{match[1]}{"../" * depth}{name}'
        return match[0]

    return LINK.sub(within, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Equations as MathML; roles of docstrings without their markup."""
    return ROLE.sub('', EQUATION.sub(_mathml, html))


def _mathml(match: re.Match) -> str:
    display = 'block' if match[2] == '[' else 'inline'
    html = convert(unescape(match[3]), display=display)
    if '\\' in html or '<mo>*' in html:
        raise PluginError(f'a command of this equation is not known: {match[3]}')
    return html
