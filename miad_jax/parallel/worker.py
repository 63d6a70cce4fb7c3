"""The program that runs in a worker process of `miad_jax.parallel.pool.Pool`.

It is run as a script, so it may import the standard library only. It runs another script, takes
that script's function, and answers pickled requests on standard input with pickled replies on
standard output: `(True, result)`, or `(False, message)` before an exception ends the process.
"""

import os
import pickle
import runpy
import signal
import sys
import traceback


def serve(script: str, function: str) -> None:
    """Answer requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing printed may mix with replies
    answer = runpy.run_path(script)[function]
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply = pickle.dumps((True, answer(request)))
        except Exception as error:
            pickle.dump((False, f"{type(error).__name__}: {error}"), replies)
            replies.flush()
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # at once: threads that the function has left may not hold it up
        replies.write(reply)
        replies.flush()


if __name__ == "__main__":
    serve(*sys.argv[1:])
