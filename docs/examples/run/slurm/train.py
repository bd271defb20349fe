"""Counts to a thousand, and goes on where the last job was stopped."""

import os
import signal
import sys
import time

stopped = False


def stop(_signal, _frame):
    global stopped
    stopped = True


def save(step):
    with open("checkpoint.tmp", "w") as file:
        file.write(f"{step}\n")
    os.replace("checkpoint.tmp", "checkpoint")


signal.signal(signal.SIGTERM, stop)
step = int(open("checkpoint").read()) if os.path.exists("checkpoint") else 0
print(f"from step {step}", flush=True)
while step < 1000:
    time.sleep(0.01)
    step += 1
    if step % 100 == 0:
        save(step)
    if stopped:
        save(step)
        sys.exit(f"stopped at step {step}")
save(step)
print("done")
