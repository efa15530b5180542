"""The layout of configs, for which mmengine asks yapf several times in each training."""

from yapf.yapflib import yapf_api

KEPT = 50


def remember_layouts() -> None:
    """Let a text that yapf has laid out before be looked up."""
    lay_out, known = yapf_api.FormatCode, {}

    def format_code(code: str, **options: object) -> object:
        key = code, repr(options)
        if key not in known:
            if len(known) == KEPT:
                known.pop(next(iter(known)))
            known[key] = lay_out(code, **options)
        return known[key]

    yapf_api.FormatCode = format_code
