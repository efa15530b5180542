"""The layout of configs, for which mmengine asks yapf several times in each training."""

from effvit_mm.openmm.config.writing import import_formatter

KEPT = 50


def remember_layouts() -> None:
    """Let a text that yapf has laid out before be looked up."""
    yapf_api = import_formatter()
    lay_out, known = yapf_api.FormatCode, {}

    def format_code(code: str, **options: object) -> object:
        key = code, repr(options)
        if key not in known:
            if len(known) == KEPT:
                known.pop(next(iter(known)))
            known[key] = lay_out(code, **options)
        return known[key]

    yapf_api.FormatCode = format_code
