"""Every public name stands in the API, and every link leads somewhere."""

import ast
import pathlib
import re
import subprocess
import sys
import zlib

import pytest

import jepa_wm

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / 'docs'
PAGES = sorted(DOCS.rglob('*.md'))

MODULES = {
  '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix(
    '.__init__'
  ): path
  for path in sorted((ROOT / 'jepa_wm').rglob('*.py'))
}


def entries() -> list[str]:
  """What the API pages ask mkdocstrings for: modules, and rooms whole."""
  lines = ''.join(p.read_text() for p in (DOCS / 'api').glob('*.md'))
  return re.findall(r'^::: (\S+)$', lines, re.MULTILINE)


def is_covered_by(module: str, entry: str) -> bool:
  # The package alone is shown without what is inside.
  inside = entry != 'jepa_wm' and module.startswith(entry + '.')
  return module == entry or inside


def test_every_module_is_in_one_api_page():
  listed = entries()
  found = {m: sum(is_covered_by(m, e) for e in listed) for m in MODULES}
  wrong = {module: count for module, count in found.items() if count != 1}
  assert not wrong, f'modules, and how often they stand in docs/api/: {wrong}'


def test_the_api_names_no_module_that_is_gone():
  assert set(entries()) <= set(MODULES)


def test_every_public_name_says_what_it_is():
  silent = []
  for module, path in MODULES.items():
    tree = ast.parse(path.read_text())
    nodes = {f'{module}.{name}': node for name, node in public(path)}
    silent += [
      name
      for name, node in {module: tree, **nodes}.items()
      if not ast.get_docstring(node)
    ]
  assert silent == []


def public(path: pathlib.Path) -> list[tuple[str, ast.AST]]:
  """Public functions and classes of a module."""
  return [
    (node.name, node)
    for node in ast.parse(path.read_text()).body
    if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    and not node.name.startswith('_')
  ]


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_every_link_leads_somewhere(page):
  for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
    path, _, anchor = target.partition('#')
    if '://' in target:
      continue
    linked = page.parent / path if path else page
    assert linked.is_file(), target
    assert DOCS in linked.resolve().parents, f'{target} is not in the site'
    if anchor:
      assert anchor in anchors(linked), target


def anchors(page: pathlib.Path) -> set[str]:
  """What the headings of a page are called in links."""
  text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
  headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
  words = [re.sub(r'[^\w\s-]', '', h).strip().lower() for h in headings]
  return {re.sub(r'[\s-]+', '-', w) for w in words}


def test_every_page_is_in_the_navigation():
  listed = re.findall(r'(\S+\.md)$', (ROOT / 'mkdocs.yml').read_text(), re.M)
  assert sorted(listed) == [p.relative_to(DOCS).as_posix() for p in PAGES]


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_every_command_and_every_named_file_exists(page):
  text = page.read_text()
  for command in re.findall(r'-m ((?:experiments|benchmarks)\.\w+)', text):
    assert (ROOT / (command.replace('.', '/') + '.py')).is_file(), command
  for path in re.findall(r'`((?:jepa_wm|experiments|tests)/[\w/.]+)`', text):
    assert (ROOT / path).exists(), path


@pytest.mark.slow
def test_every_public_name_is_in_the_site(tmp_path):
  # The extra `docs`, which a job of `.github/workflows/ci.yml` has.
  pytest.importorskip('mkdocs')
  command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d']
  subprocess.run([*command, tmp_path], cwd=ROOT, check=True)
  # Sphinx's inventory: four lines of text, then compressed rows.
  packed = (tmp_path / 'objects.inv').read_bytes().split(b'\n', 4)[4]
  there = {
    row.split()[0]
    for row in zlib.decompress(packed).decode().split('\n')
    if row
  }
  wanted = {f'jepa_wm.{name}' for name in jepa_wm.__all__}
  for module, path in MODULES.items():
    wanted |= {f'{module}.{name}' for name, _ in public(path)}
  assert wanted - there == set()
