"""The program that runs in a worker process of `miad_jax.parallel.process.WorkerProcess`.

It is run as a script, so it may import the standard library only. It runs another script, takes
that script's function, and answers requests on standard input on standard output. A request is a
pickle of the bytes of the pickled argument. A reply is `(True, the bytes of the pickled result)`,
or `(False, message)` before an exception ends the process: who passes messages on need not know
the classes in them. The process ends with its parent, also in the middle of a request.
"""

import os
import pickle
import runpy
import signal
import sys
import threading
import time
import traceback


def serve(script: str, function: str, parent: str) -> None:
    """Answer requests until standard input closes or the parent, a process id, has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    threading.Thread(target=_follow, args=(int(parent),), daemon=True).start()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing printed may mix with replies
    answer = runpy.run_path(script)[function]
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply = pickle.dumps((True, pickle.dumps(answer(pickle.loads(request)))))
        except Exception as error:
            pickle.dump((False, f"{type(error).__name__}: {error}"), replies)
            replies.flush()
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # at once: threads that the function has left may not hold it up
        replies.write(reply)
        replies.flush()


def _follow(parent: int) -> None:
    """End the process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    serve(*sys.argv[1:])
