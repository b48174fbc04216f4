"""The program that serves the embedded model, started by ``embedded.py`` with the path of the model.

It prints its address and serves until its standard input closes, which happens even if its parent is killed. A process
of its own, because llama.cpp's threads do not survive the end of an interpreter that has a request under way: in
process, that ended in a segmentation fault or a deadlock.
"""

import importlib
import os
import signal
import sys
from typing import Any

CONTEXT = 4096
"""Tokens of prompt and answer together."""
PROMPT_CACHE = 256
"""MiB for prompts that were asked before and gave way to others."""


def parameters(llama: Any, path: str) -> Any:
    """What makes the same prompt give the same answer, whatever was asked before and whatever is asked meanwhile.

    One slot and one thread, so that no request is ever batched with another; and no flash attention, whose result
    depends on how much of the prompt was cached. Measured: log probabilities equal to the last bit.
    """
    p = llama.CommonParams()
    p.model.path = path
    p.hostnames = ["127.0.0.1"]
    p.port = 0
    p.n_parallel = 1
    p.n_ctx = CONTEXT
    p.cpuparams.n_threads = 1
    p.cpuparams_batch.n_threads = 1
    p.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    p.cache_ram_mib = PROMPT_CACHE
    p.n_gpu_layers = 0
    p.n_threads_http = 2
    p.fit_params = False
    p.warmup = False
    p.model_alias = {"smollm2-135m"}  # in place of the path, which would end up in records
    p.ui = False
    p.endpoint_slots = False
    p.verbosity = -1
    return p


def serve(path: str) -> None:
    llama = importlib.import_module("xllamacpp")
    server = llama.Server(parameters(llama, path))
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    try:
        serve(sys.argv[1])
    except (ImportError, RuntimeError) as e:
        print(f"failed: {e}", flush=True)
    finally:
        os._exit(0)  # also when nobody reads what is printed: to take the server apart is what deadlocks


if __name__ == "__main__":
    main()
