"""Draws the pictures of the concepts: ``python docs/site/drawings.py`` writes docs/images/*.svg."""

from __future__ import annotations

from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / 'images'
FILLS = {'data': '#e8eaf6', 'step': '#fff3e0', 'weight': '#e8f5e9', 'out': '#fce4ec', 'off': '#fff'}
STYLE = (
    'font-family="system-ui, sans-serif" font-size="13" fill="#222" text-anchor="middle" '
    'stroke-linejoin="round"'
)


class Drawing:
    """An SVG of boxes, arrows and words, on paper of its own: it is read on dark pages too.

    Lengths are in pixels, from the upper left corner.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height, self.parts = width, height, []

    def box(self, x: int, y: int, text: str, kind: str = 'data', w: int = 96, h: int = 34) -> None:
        """A box of its upper left corner; ``off`` is what training alone has."""
        dashed = ' stroke-dasharray="4 3"' if kind == 'off' else ''
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="5" fill="{FILLS[kind]}" '
            f'stroke="#5c6bc0"{dashed}/>'
        )
        lines = text.split('\n')
        for i, line in enumerate(lines):
            self.word(x + w / 2, y + h / 2 + 4.5 + 15 * (i - (len(lines) - 1) / 2), line)

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """A line through points, with a head at the last."""
        path = 'M' + ' L'.join(f'{x} {y}' for x, y in points)
        dash = ' stroke-dasharray="4 3"' if dashed else ''
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="#444" stroke-width="1.3"{dash} '
            'marker-end="url(#head)"/>'
        )

    def word(self, x: float, y: float, text: str, anchor: str = 'middle') -> None:
        """Words whose middle (or ``start``) is at x, on the line y."""
        where = '' if anchor == 'middle' else f' text-anchor="{anchor}"'
        self.parts.append(f'<text x="{x}" y="{y}"{where} stroke="none">{escape(text)}</text>')

    def chain(self, y: int, steps: list[tuple[str, str]], x: int = 14, w: int = 96) -> list[int]:
        """Boxes in a row with arrows between them; returns their left edges."""
        lefts = [x + i * (w + 26) for i in range(len(steps))]
        for left, (text, kind) in zip(lefts, steps, strict=True):
            self.box(left, y, text, kind, w, 46)
        for left in lefts[:-1]:
            self.arrow((left + w, y + 23), (left + w + 24, y + 23))
        return lefts

    def save(self, name: str) -> None:
        """Write ``docs/images/<name>.svg``."""
        head = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker>'
            f'</defs><rect width="{self.width}" height="{self.height}" rx="8" fill="#fff" '
            'stroke="#ddd"/>'
        )
        text = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" '
            f'viewBox="0 0 {self.width} {self.height}" {STYLE}>\n{head}\n'
        )
        (FOLDER / f'{name}.svg').write_text(text + '\n'.join(self.parts) + '\n</svg>\n')


def softmax() -> Drawing:
    d = Drawing(640, 150)
    for y, text in ((14, 'Q  N x d'), (58, 'K  N x d'), (102, 'V  N x e')):
        d.box(14, y, text)
    d.box(160, 32, 'Q K^T / sqrt(d)\nN x N', 'step', 120, 46)
    d.box(316, 32, 'softmax\nof each row', 'step', 110, 46)
    d.box(462, 32, 'product', 'step', 70, 46)
    d.box(560, 38, 'N x e', 'out', 66)
    d.arrow((110, 31), (158, 46))
    d.arrow((110, 75), (158, 62))
    d.arrow((280, 55), (314, 55))
    d.arrow((426, 55), (460, 55))
    d.arrow((110, 119), (497, 119), (497, 80))
    d.arrow((532, 55), (558, 55))
    return d


def linear() -> Drawing:
    d = Drawing(640, 150)
    for y, text in ((14, 'V  N x e'), (58, 'K  N x d'), (102, 'Q  N x d')):
        d.box(14, y, text)
    d.box(140, 58, 'phi', 'step', 50)
    d.box(140, 102, 'phi', 'step', 50)
    d.box(226, 34, 'phi(K)^T V\nd x e', 'weight', 110, 46)
    d.box(372, 66, 'product', 'step', 80, 46)
    d.box(488, 72, 'N x e', 'out', 80)
    d.word(281, 26, 'summed up once')
    d.word(412, 132, 'divided by phi(Q) sum phi(K)')
    for y in (75, 119):
        d.arrow((110, y), (138, y))
    d.arrow((110, 31), (224, 50))
    d.arrow((190, 75), (224, 64))
    d.arrow((190, 119), (352, 119), (352, 98), (370, 98))
    d.arrow((336, 57), (354, 57), (354, 80), (370, 80))
    d.arrow((452, 89), (486, 89))
    return d


def linear_angular() -> Drawing:
    d = Drawing(716, 196)
    d.box(14, 78, 'Q, K, V', w=76)
    d.box(150, 12, 'V / 2', 'weight', 214)
    d.box(150, 58, 'unit Q (unit K^T V) / pi', 'weight', 214)
    d.box(150, 104, 'softmax above a threshold, V', 'off', 214)
    d.box(150, 150, 'depthwise convolution of V', 'weight', 214)
    d.box(428, 58, 'sum', 'step', 52)
    d.box(514, 58, 'unit length', 'step', 84)
    d.box(640, 78, 'out', 'out', 58)
    for y in (29, 75, 121, 167):
        d.arrow((90, 95), (120, 95), (120, y), (148, y), dashed=y == 121)
    d.arrow((364, 29), (454, 29), (454, 56))
    d.arrow((364, 75), (426, 75))
    d.arrow((364, 121), (454, 121), (454, 94), dashed=True)
    d.arrow((480, 75), (512, 75))
    d.arrow((598, 75), (620, 75), (620, 90), (638, 90))
    d.arrow((364, 167), (620, 167), (620, 102), (638, 102))
    d.word(530, 126, 'in training alone')
    return d


def token_sampling() -> Drawing:
    d = Drawing(640, 196)
    scores = (2, 3, 3, 5, 6, 9, 14, 18, 22, 30)
    total, base, unit = 0, 160, 110 / sum(scores)
    d.word(150, 184, 'scores of the patch tokens, sorted')
    d.word(470, 184, 'their sum so far, asked at even steps')
    for i, score in enumerate(scores):
        d.parts.append(
            f'<rect x="{30 + 24 * i}" y="{base - 4 * score}" width="18" height="{4 * score}" '
            'fill="#9fa8da"/>'
        )
        total += score
        y = base - total * unit
        d.parts.append(f'<rect x="{340 + 26 * i}" y="{y:.0f}" width="26" height="2" fill="#444"/>')
        picked = i in (5, 7, 8, 9)
        fill = '#d81b60' if picked else '#c5cae9'
        d.parts.append(f'<circle cx="{353 + 26 * i}" cy="{y + 1:.0f}" r="5" fill="{fill}"/>')
    for k in range(1, 5):
        y = base - k * 27.5
        d.parts.append(
            f'<line x1="332" y1="{y}" x2="604" y2="{y}" stroke="#d81b60" stroke-dasharray="2 4"/>'
        )
    d.word(352, 30, 'red: the nearest to a step, kept', 'start')
    return d


def e_attention() -> Drawing:
    d = Drawing(700, 170)
    d.box(14, 16, 'K, V', w=70)
    d.box(14, 66, 'class query', w=90)
    d.box(14, 120, 'all queries', w=90)
    d.box(140, 16, 'S = phi(K)^T V', 'weight', 120)
    d.box(140, 66, 'class row of weights', 'step', 140)
    d.box(310, 66, 'scores, sampling', 'step', 120)
    d.box(310, 120, 'kept queries', 'step', 120)
    d.box(480, 92, 'phi(q) S,\ndivided', 'weight', 90, 46)
    d.box(600, 98, 'kept rows', 'out', 86)
    d.arrow((84, 33), (138, 33))
    d.arrow((104, 83), (138, 83))
    d.arrow((280, 83), (308, 83))
    d.arrow((370, 100), (370, 118))
    d.arrow((104, 137), (308, 137))
    d.arrow((260, 33), (525, 33), (525, 90))
    d.arrow((430, 137), (455, 137), (455, 118), (478, 118))
    d.arrow((570, 115), (598, 115))
    d.word(440, 26, 'of all tokens of the block')
    return d


def ladder() -> Drawing:
    d = Drawing(700, 210)
    d.box(14, 82, 'map\nC channels', h=46, w=84)
    d.box(600, 82, 'fusion,\nC channels', 'out', 86, 46)
    for i, shift in enumerate(('no shift', 'shift -3', 'shift +3')):
        y = 16 + 66 * i
        d.box(150, y, f'C/3: attention in windows, {shift}', 'step', 250)
        d.box(440, y, 'ConvFFN', 'weight', 90)
        d.arrow((98, 105), (122, 105), (122, y + 17), (148, y + 17))
        d.arrow((400, y + 17), (438, y + 17))
        d.arrow((530, y + 17), (566, y + 17), (566, 105), (598, 105))
        if i < 2:
            d.arrow((485, y + 34), (485, y + 50), (275, y + 50), (275, y + 64))
            d.word(380, y + 46, 'its output is the next values')
    return d


def cross_attention() -> Drawing:
    d = Drawing(660, 150)
    d.box(14, 20, 'class token\nof branch S', h=46)
    d.box(14, 90, 'patches\nof branch L', h=46)
    d.box(142, 26, 'project', 'step', 76)
    d.box(250, 26, 'query', 'step', 70)
    d.box(250, 96, 'keys, values', 'step', 100)
    d.box(390, 56, 'attention\nof one row', 'weight', 96, 46)
    d.box(520, 56, 'project back', 'step', 110, 46)
    d.arrow((110, 43), (140, 43))
    d.arrow((218, 43), (248, 43))
    d.arrow((218, 50), (234, 50), (234, 106), (248, 106))
    d.arrow((110, 120), (248, 120))
    d.arrow((320, 43), (370, 43), (370, 70), (388, 70))
    d.arrow((350, 113), (370, 113), (370, 90), (388, 90))
    d.arrow((486, 79), (518, 79))
    d.word(574, 126, 'the new class token of S')
    return d


def vision_transformer() -> Drawing:
    d = Drawing(640, 110)
    lefts = d.chain(
        22,
        [
            ('image', 'data'),
            ('patches of 16', 'step'),
            ('12 blocks,\none stride', 'weight'),
            ('class token\nor map / 16', 'data'),
            ('head, neck', 'out'),
        ],
    )
    d.word(lefts[2] + 48, 92, 'attention: any mechanism, or in windows')
    return d


def pslt() -> Drawing:
    d = Drawing(740, 110)
    stages = [
        ('stem\nstride 2', 'step'),
        ('3 inverted\nresiduals, 4', 'step'),
        ('3 inverted\nresiduals, 8', 'step'),
        ('10 ladder\nblocks, 16', 'weight'),
        ('3 ladder\nblocks, 32', 'weight'),
        ('map, or\nmean, head', 'out'),
    ]
    lefts = d.chain(22, stages, w=94)
    d.word(lefts[3] + 100, 92, 'any mechanism within the windows')
    return d


def crossvit() -> Drawing:
    d = Drawing(730, 184)
    for y, name, blocks in (
        (20, 'S: patches of 12', '1 block'),
        (104, 'L: patches of 16', 'M blocks'),
    ):
        d.box(14, y, name, w=120, h=46)
        for i in range(3):
            left = 166 + 150 * i
            d.box(left, y, blocks, 'weight', 76, 46)
            d.arrow((134 if not i else left - 40, y + 23), (left - 2, y + 23))
            d.arrow((left + 76, y + 23), (left + 108, y + 23))
    for i in range(3):
        d.box(276 + 150 * i, 20, 'x', 'step', 34, 130)
    d.box(638, 62, 'mean of\nlogits', 'out', 78, 46)
    d.arrow((610, 43), (677, 43), (677, 60))
    d.arrow((610, 127), (677, 127), (677, 110))
    d.word(350, 172, 'x: the class tokens attend to the other branch')
    return d


def levit() -> Drawing:
    d = Drawing(740, 110)
    stages = [
        ('convolutions\nstride 16', 'step'),
        ('stage 1', 'weight'),
        ('subsample\nstride 32', 'step'),
        ('stage 2', 'weight'),
        ('subsample\nstride 64', 'step'),
        ('stage 3,\nmean, head', 'out'),
    ]
    lefts = d.chain(22, stages, w=94)
    d.word(lefts[2] + 47, 92, 'attention with every second query')
    return d


def mvitv2() -> Drawing:
    d = Drawing(640, 150)
    d.box(14, 58, 'tokens\nof a map', h=46)
    for i, text in enumerate(('Q, pooled', 'K, pooled more', 'V, pooled more')):
        y = 14 + 44 * i
        d.box(160, y, text, 'step', 120)
        d.arrow((110, 81), (134, 81), (134, y + 17), (158, y + 17))
        d.arrow((280, y + 17), (310, y + 17), (310, 75), (338, 75))
    d.box(340, 52, 'attention: any\nmechanism', 'weight', 110, 46)
    d.box(486, 58, '+ pooled Q', 'step', 80)
    d.box(592, 58, 'out', 'out', 38)
    d.arrow((450, 75), (484, 75))
    d.arrow((566, 75), (590, 75))
    d.arrow((280, 24), (526, 24), (526, 56))
    return d


DRAWINGS = (
    softmax, linear, linear_angular, token_sampling, e_attention, ladder, cross_attention,
    vision_transformer, pslt, crossvit, levit, mvitv2,
)  # fmt: skip

if __name__ == '__main__':
    for draw in DRAWINGS:
        draw().save(draw.__name__)
