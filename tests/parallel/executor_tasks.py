"""Functions that the tests of executors run; the module imports nothing of miad_jax."""

import os
import sys
import threading
import time


def work(request):
    """Do as the request says, and return it with the process and whether that knows JAX."""
    if request == "die":
        os._exit(7)
    if request == "hang":
        time.sleep(60)
    if isinstance(request, tuple) and request[0] == "wait":
        time.sleep(request[1])
    if request == "die with the parent":
        os.kill(os.getppid(), 9)
        time.sleep(60)
    if request == "noise":
        print("nothing printed may mix with results")
    if request == "raise":
        if "pytest" not in sys.modules:  # a thread that would hold up the end of a worker
            threading.Thread(target=time.sleep, args=(60,)).start()
        raise LookupError("no such crystal")
    if request == "unpicklable":
        return lambda: 0
    return request, os.getpid(), "jax" in sys.modules or "miad_jax" in sys.modules
