#!/usr/bin/env python
"""A web page on this machine that shows what trained models find in images.

``app.py --classifier CONFIG WEIGHTS --detector CONFIG WEIGHTS --search found`` serves a tab for
each that is given: classes, objects, and where else somebody was, in the tracks of a folder that
``person_search.py index`` filled. A file of ``export.py`` will do for config and weights. ``make
app`` shows the models of those demonstrations that were made.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py

HEIGHT = 300  # of images
CSS = """
.line { min-height: 1.6em; font-size: 1.15em; margin: 0 }
.line.failed { color: #b00020 }
.dark .line.failed { color: #ff8a80 }
.scores, .scores tr, .scores td { border: 0 !important }
.scores { width: 100%; table-layout: fixed }
.scores td:nth-child(2) { width: 50% }
.scores td:last-child { width: 5em; text-align: right }
.bar { height: .6em; border-radius: .3em; background: var(--color-accent) }
.rows { overflow-x: auto }
.rows table { width: 100%; border: 0 !important }
.rows tr, .rows th, .rows td { border: 0 !important; text-align: left; white-space: nowrap }
.rows tr { border-bottom: 1px solid var(--border-color-primary) !important }
.rows th, .rows td { padding: .3em .6em }
.whole img { width: 100%; height: 100%; object-fit: contain }
.examples .gallery { flex-wrap: nowrap; overflow-x: auto }
.examples .gallery-item { flex: none }
.examples .gallery-item img { height: 6rem; object-fit: contain }
.rank-list div:has(> img) { display: block; overflow-x: auto }
.rank-list img { width: 100%; min-width: 56rem; height: auto; max-height: none }
footer { display: none !important }
"""


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_runtime, add_trust_checkpoint

    parser = Parser(prog='app.py', description=__doc__.split('\n')[0])
    for name in ('classifier', 'detector'):
        parser.add_argument(
            f'--{name}', nargs='+', metavar='FILE', help='config and weights, or an exported file'
        )
    parser.add_argument(
        '--search', metavar='FOLDER', help='folder that person_search.py index wrote'
    )
    parser.add_argument(
        '--reid', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='where its model is now'
    )
    parser.add_argument('--people', metavar='FOLDER', help='pictures of people as examples')
    parser.add_argument('--port', type=int, help='of the page (the first free one from 7860 on)')
    parser.add_argument('--device', help='cpu, cuda:0; default: CUDA where there is one')
    add_runtime(parser)
    add_trust_checkpoint(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Open the models, serve the page until it is interrupted."""
    import tempfile

    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.person_search import WORK

    if not (args.classifier or args.detector or args.search):
        raise ConfigError('--classifier, --detector, --search: one of them is needed')
    for flag in ('reid', 'people'):
        if getattr(args, flag) and not args.search:
            raise ConfigError(f'--{flag}: it goes with --search')
    # Uploads are kept while the page is there, and no longer.
    with tempfile.TemporaryDirectory(prefix='effvit_mm-app-') as folder:
        keep_to_itself(folder)
        check_gradio()
        page = make_page(open_models(args))
        try:
            # Of other folders gradio shows nothing.
            folders = [str(Path(args.search) / WORK)] if args.search else []
            stay(start(page, args.port, folders))
        except KeyboardInterrupt:
            print('the page is closed')
        finally:
            page.close(verbose=False)


def keep_to_itself(folder: str) -> None:
    """Have gradio keep uploads in a folder, send nothing to anybody, and reach its own page."""
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED='False')
    for name in ('NO_PROXY', 'no_proxy'):  # a proxy does not lead to it
        os.environ[name] = ','.join(filter(None, [os.environ.get(name), '127.0.0.1']))


def check_gradio() -> None:
    """Raise a ConfigError where it is not installed."""
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        from effvit_mm.errors import ConfigError

        if error.name != 'gradio':
            raise
        raise ConfigError(
            "the page needs the package gradio: `pip install 'effvit-mm[app]'` or `pip install "
            'gradio`'
        ) from error


def open_models(args: argparse.Namespace) -> dict:
    """What makes each tab, by its title."""
    from effvit_mm.inference import Classifier, Detector
    from effvit_mm.inference.models import named_model
    from effvit_mm.inference.person_search import open_search
    from effvit_mm.inference.reid import find_people
    from effvit_mm.inference.web_page import find_examples, spread, warm_up
    from effvit_mm.openmm.cli import runtime_arguments

    options = {
        **runtime_arguments(args),
        'device': args.device,
        'trust_checkpoint': args.trust_checkpoint,
    }
    tabs = {}
    for title, flag, kind, fill in (
        ('Classify', 'classifier', Classifier, fill_classify),
        ('Detect', 'detector', Detector, fill_detect),
    ):
        if files := getattr(args, flag):
            model = named_model(f'--{flag}', files)
            inferencer = kind(*model, **options)
            warm_up(inferencer)
            tabs[title] = partial(fill, inferencer, find_examples(model[0]))
    if args.search:
        people = open_search(args.search, args.reid, **options)
        warm_up(people.extractor)
        pictures = find_people(args.people) if args.people else []
        examples = [str(image.path) for image in spread(pictures)]
        tabs['Person search'] = partial(fill_search, people, examples)
    return tabs


def make_page(tabs: dict):
    """The page: a ``gradio.Blocks``."""
    import gradio

    with gradio.Blocks(title='effvit_mm', analytics_enabled=False) as page:
        gradio.HTML('<h1>effvit_mm</h1>')
        for title, fill in tabs.items():
            with gradio.Tab(title):
                fill()
    return page


def fill_classify(classifier, examples: list[str]) -> None:
    """Upload, examples; the line and the best classes."""
    import gradio

    from effvit_mm.inference.web_page import answer, classify

    with gradio.Row():
        with gradio.Column():
            image = upload()
        with gradio.Column():
            line, scores = gradio.HTML(), gradio.HTML()
    show_examples(examples, image)

    def run(file):
        found = answer(partial(classify, classifier), file)
        return as_line(found), as_scores(found)

    on_change([image], run, [line, scores])


def fill_detect(detector, examples: list[str]) -> None:
    """Upload, examples, the threshold; the line, the drawn objects and their table."""
    import gradio

    from effvit_mm.inference.detectors import SCORE_THRESHOLD
    from effvit_mm.inference.web_page import DETECTION_COLUMNS, answer, detect

    with gradio.Row():
        with gradio.Column():
            image = upload()
        with gradio.Column():
            picture = drawn('whole', height=HEIGHT)
    line = gradio.HTML()
    least = gradio.Slider(0, 1, SCORE_THRESHOLD, step=0.05, label='least score')
    show_examples(examples, image)
    table = gradio.HTML()

    def run(file, score_thr):
        found = answer(partial(detect, detector), file, score_thr)
        return as_line(found), found.picture, as_table(DETECTION_COLUMNS, found.rows)

    on_change([image, least], run, [line, picture, table])


def fill_search(people, examples: list[str]) -> None:
    """Upload, examples, people of a video; cameras and times; the line, rank list and table."""
    import gradio

    from effvit_mm.inference.web_page import SEARCH_COLUMNS, answer, search, tracks_of

    columns = people.gallery.take(people.gallery.find())[1]
    with gradio.Row():
        with gradio.Column():
            image = upload()
        with gradio.Column():
            show_examples(examples, image)
            video = gradio.Dropdown(
                list(dict.fromkeys(columns['name'])), value=None, label='or somebody of a video'
            )
    known = gradio.Gallery(
        columns=8, height=240, object_fit='contain', allow_preview=False, visible=False
    )
    with gradio.Accordion('how many, which cameras, when', open=False), gradio.Row():
        top = gradio.Slider(1, 20, 8, step=1, label='how many')
        cameras = gradio.CheckboxGroup(sorted(set(columns['camera'])), label='cameras (none: all)')
        begin = gradio.Textbox(label='from', placeholder='10:00', min_width=100)
        end = gradio.Textbox(label='to', placeholder='10:00:30', min_width=100)
    line = gradio.HTML()
    picture = drawn('rank-list')
    table = gradio.HTML()

    def run(*given):
        found = answer(partial(search, people), *given)
        return as_line(found), found.picture, as_table(SEARCH_COLUMNS, found.rows)

    def show(name):
        tracks, count = tracks_of(people, name)
        label = f'{len(tracks)} of {count} tracks'
        return gradio.Gallery([tuple(track) for track in tracks], label=label, visible=True)

    def choose(name, event: gradio.SelectData):
        return tracks_of(people, name)[0][event.index].picture

    video.input(show, video, known, api_visibility='private')
    known.select(choose, video, image, api_visibility='private')
    on_change([image, top, cameras, begin, end], run, [line, picture, table])


def upload():
    """Where an image is put; gives its file as it is."""
    import gradio

    image = gradio.Image(
        label='image',
        type='filepath',
        sources=['upload', 'clipboard'],
        height=HEIGHT,
        elem_classes='whole',
    )
    # Whether and how it is read is the inferencers' business: Pillow would turn 16 bits into white.
    # (Not a class of its own: for each gradio would write an app.pyi beside this file.)
    image.preprocess = lambda payload: None if payload is None else payload.path
    return image


def show_examples(files: list[str], image) -> None:
    """Images that go into the upload by a click; nothing where there are none."""
    import gradio

    if files:
        with gradio.Column(elem_classes='examples'):
            gradio.Examples([[file] for file in files], [image], label='examples')


def drawn(kind: str, **options):
    """Where a picture is shown; without gradio's button that sends it to Hugging Face."""
    import gradio

    return gradio.Image(
        show_label=False,
        format='png',
        interactive=False,
        buttons=['download', 'fullscreen'],
        elem_classes=['drawn', kind],
        **options,
    )


def on_change(inputs: list, run, outputs: list) -> None:
    """Run at once when one of the inputs changes; one run after the other, so that times hold."""
    for given in inputs:
        event = getattr(given, 'release', None) or getattr(given, 'submit', None) or given.change
        event(run, inputs, outputs, concurrency_id='networks', api_visibility='private')


def as_line(found) -> str:
    """The answer's line as HTML."""
    from html import escape

    if not found.failed:
        return f'<p class="line" role="status">{escape(found.line)}</p>'
    return f'<p class="line failed" role="alert">error: {escape(found.line)}</p>'


def as_scores(found) -> str:
    """The best classes as an HTML table with bars."""
    from html import escape

    rows = ''.join(
        f'<tr><td>{escape(name)}</td>'
        f'<td><div class="bar" style="width: {100 * score:.1f}%"></div></td>'
        f'<td>{100 * score:.1f} %</td></tr>'
        for name, score in found.scores.items()
    )
    return f'<table class="scores">{rows}</table>' if rows else ''


def as_table(columns: tuple[str, ...], rows: list[list]) -> str:
    """Rows as HTML; nothing where there are none."""
    from html import escape

    def row(cells, kind: str) -> str:
        return f'<tr>{"".join(f"<{kind}>{escape(str(cell))}</{kind}>" for cell in cells)}</tr>'

    if not rows:
        return ''
    body = ''.join(row(cells, 'td') for cells in rows)
    head = row(columns, 'th')
    return f'<div class="rows"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def start(page, port: int | None, folders: list[str]) -> str:
    """Show the page on this machine alone, and go on; gives its address.

    Args:
        page: The page.
        port: None: the first free one from 7860 on.
        folders: It may show pictures of these.

    Raises:
        ConfigError: The port cannot be had.
    """
    from effvit_mm.errors import ConfigError

    try:
        _, address, _ = page.launch(
            server_name='127.0.0.1',
            server_port=port,
            allowed_paths=folders,
            share=False,
            inbrowser=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            css=CSS,
        )
    except (OSError, OverflowError) as error:
        name = 'ports from 7860 on' if port is None else f'--port {port}'
        raise ConfigError(f'{name}: the page cannot be shown there: {error}') from error
    return address


def stay(address: str) -> None:
    """Wait for Ctrl-C."""
    from threading import Event

    print(f'the page is at {address} (Ctrl-C ends it)', flush=True)
    Event().wait()


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
