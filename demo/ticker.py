"""Writes numbered lines to stdout at a fixed pace, and counts them where no log can lose them.

usage: ticker.py LINES_PER_SECOND COUNT_FILE

The count is written when it is told to stop. A line that was not taken is not counted, and a broken
pipe ends it: then the count stands in no file, which is itself a finding.
"""

import os
import signal
import sys
import time

rate, count_file = int(sys.argv[1]), sys.argv[2]
stopping = False


def stop(signum, frame):
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)
pid, n, start = os.getpid(), 0, time.monotonic()
while not stopping:
    due = start + n / rate
    wait = due - time.monotonic()
    if wait > 0:
        time.sleep(wait)
        continue
    n += 1
    line = f"tick pid={pid} n={n}.\n".encode()
    while line:
        line = line[os.write(1, line) :]

with open(count_file + ".new", "w") as f:
    f.write(f"{pid} {n}\n")
os.rename(count_file + ".new", count_file)
