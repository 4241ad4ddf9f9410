"""Runs inside a child process, as a script: one conversion by Paddle-Lite's Opt, which aborts on failure.

Usage: ``python -I opt_child.py MODEL PARAMS TARGET OUT MODE`` writes ``OUT.nb``. Exit code 86: paddlelite
cannot be imported. Only the wheel and the standard library are imported: it runs isolated from user paths.
"""

from __future__ import annotations

import resource
import sys

NOT_IMPORTABLE = 86
PLAIN = "plain"
MODES = (PLAIN, "weights-int8", "weights-int16", "fp16")


def main(model: str, params: str, target: str, out: str, mode: str) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        from paddlelite import lite
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_IMPORTABLE
    opt = lite.Opt()
    sys.stderr.write(f"opt version {opt.version()}\n")
    opt.set_model_file(model)
    opt.set_param_file(params)
    opt.set_model_type("naive_buffer")
    if mode == "fp16":  # before the places are set: they are where opt looks at it
        opt.enable_fp16()
    elif mode != PLAIN:
        opt.set_quant_model(True)
        opt.set_quant_type(f"QUANT_{mode.removeprefix('weights-').upper()}")
    opt.set_valid_places(target)
    opt.set_optimize_out(out)
    opt.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:6]))
