#!/usr/bin/env python3
"""Records the screens of docs/tour.md again, on a real terminal of 80 columns: tmux.

    just tour [SCREEN ...]

Each `<!-- screen NAME -->` in the page is followed by a block, which is replaced by what the terminal showed. The store is
an S3 server on this machine; for the slow line, a proxy lets 1 MiB/s through in each direction. Everything is in /tmp/me,
which must not exist, and which is removed at the end. Needs tmux, and for the full disk the right to mount a tmpfs.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

COLUMNS, ROWS = 80, 40
RATE = 1 << 20
HOME = Path("/tmp/me")
PAGE = Path(__file__).resolve().parent.parent / "tour.md"

# What is typed. A number waits for so many seconds and takes the screen, `^C` interrupts, `end` waits for the prompt and
# takes the screen. `quiet` commands come before, unseen. `line` is the line to the store: fast, slow or none.
SCREENS = {
    "push-fast": {"line": "fast", "type": "ctxsync push photos photos", "then": [0.6, 1.2, "end"]},
    "push-slow": {"line": "slow", "type": "ctxsync push my-project project", "then": [1, 3, 4, "end"]},
    "push-huge": {"line": "slow", "type": "ctxsync push model model", "then": [1, 4, 10, "^C", "end"]},
    "pull-fast": {"line": "fast", "type": "ctxsync pull photos copy", "then": [0.4, 0.6, "end"]},
    "pull-slow": {"line": "slow", "type": "ctxsync pull my-project temp", "then": [1, 3, 4, "end"]},
    "first": {"type": "ctxsync push my-project project", "then": ["end"]},
    "status": {"line": "fast", "type": "ctxsync status", "then": ["end"]},
    "log": {
        "quiet": "cd project; for i in 1 2 3; do echo $i > notes.txt; mkdir -p src; echo $i >> src/main.rs; "
        "ctxsync push my-project .; done; ctxsync context tag my-project@2 before-move; rm notes.txt; "
        "ctxsync push my-project .; cd",
        "type": "ctxsync log my-project",
        "then": ["end"],
    },
    "ls": {"quiet": "ln -sf src/main.rs project/link; ctxsync push my-project project", "type": "ctxsync ls my-project:src; ctxsync ls my-project | tail -n 4", "then": ["end"]},
    "contexts": {"quiet": "ctxsync context fork my-project try-1", "type": "ctxsync context list --long", "then": ["end"]},
    "diff": {
        "quiet": "printf 'one\\ntwo\\n' > project/src/main.rs; rm project/data/7.txt",
        "type": "ctxsync diff my-project project",
        "then": ["end"],
    },
    "conflict": {
        "quiet": "ctxsync push my-project project; ctxsync pull my-project elsewhere; echo mine > project/plan.txt; "
        "ctxsync push my-project project; echo theirs > elsewhere/plan.txt",
        "type": "ctxsync sync my-project elsewhere; ls elsewhere",
        "then": ["end"],
    },
    "held-back": {"quiet": "rm -r elsewhere/*", "type": "ctxsync push my-project elsewhere", "then": ["end"]},
    "refused": {
        "set": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        "type": "ctxsync push my-project project --store s3://bucket/team --retry-time 2s",
        "then": ["end"],
    },
    "no-credentials": {
        # As on a machine that is not the cloud's.
        "set": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"},
        "type": "ctxsync push my-project project --store s3://bucket/team",
        "then": ["end"],
    },
    "full-disk": {
        "quiet": "mkdir -p disk; mount -t tmpfs -o size=2m none disk",
        "type": "ctxsync push photos photos --store disk/store",
        "then": ["end"],
        "after": "umount disk",
    },
    "forgotten": {"type": "ctxsync run -c my-project ls", "then": ["end"]},
    "home": {"type": "ctxsync push backup", "then": [1]},
}


def data():
    """Makes what is saved: small files that look like text, and larger ones that can't be compressed."""
    drawn = random.Random(1)
    for number in range(300):
        text = "\n".join(str(number * value) for value in range(900))
        write(f"project/data/{number}.txt", text.encode())
    write("project/model.bin", drawn.randbytes(10 << 20))
    for number in range(200):
        write(f"photos/{2020 + number % 6}/{number:04}.jpg", drawn.randbytes(2 << 20))
    with open(make("model/weights.bin"), "wb") as file:
        for _ in range(300):
            file.write(drawn.randbytes(1 << 20))


def make(name):
    path = HOME / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write(name, content):
    make(name).write_bytes(content)


def slow_line(port):
    """Starts a proxy to a port of this machine, and returns its own."""

    def carry(source, target, turn, free):
        try:
            while data := source.recv(8192):
                with turn:
                    free[0] = max(free[0], time.monotonic()) + len(data) / RATE
                    due = free[0]
                time.sleep(max(0, due - time.monotonic()))
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    listener = socket.socket()
    # What the system keeps for a slow reader would count as sent.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    up, down = (threading.Lock(), [0.0]), (threading.Lock(), [0.0])

    def serve():
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=carry, args=(client, server, *up), daemon=True).start()
            threading.Thread(target=carry, args=(server, client, *down), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


class Terminal:
    """A terminal with a shell, as a new user has it."""

    def __init__(self, program, variables):
        self.name = f"tour-{os.getpid()}"
        env = {
            "HOME": str(HOME),
            "PATH": f"{Path(program).resolve().parent}:/usr/bin:/bin:/usr/sbin:/sbin",
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "PS1": "$ ",
            "PAGER": "cat",
            "TZ": "UTC0",
            **variables,
        }
        shell = ["env", "-i", *(f"{name}={value}" for name, value in env.items()), "bash", "--norc", "--noprofile"]
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        subprocess.run(["tmux", "new-session", "-d", "-s", self.name, *size, "-c", HOME, *shell], check=True)
        self.wait()

    def tmux(self, *args):
        return subprocess.run(["tmux", *args], check=True, capture_output=True, text=True).stdout

    def screen(self):
        return self.tmux("capture-pane", "-p", "-t", self.name).rstrip().split("\n")

    def type(self, text):
        self.tmux("send-keys", "-t", self.name, "-l", text)
        self.tmux("send-keys", "-t", self.name, "Enter")

    def interrupt(self):
        self.tmux("send-keys", "-t", self.name, "C-c")

    def wait(self, seconds=120):
        """Waits for the prompt."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            if self.screen()[-1] == "$":
                return
        sys.exit("no prompt:\n" + "\n".join(self.screen()))

    def close(self):
        subprocess.run(["tmux", "kill-session", "-t", self.name], check=False)


def record(screen, program, variables):
    """Returns what the terminal showed, at each moment at which it was looked at."""
    terminal = Terminal(program, variables)
    try:
        if quiet := screen.get("quiet"):
            terminal.type(f"{{ {quiet}; }} > /dev/null 2>&1; clear")
            terminal.wait()
            time.sleep(0.3)
        terminal.type(screen["type"])
        begun, frames = time.monotonic(), []
        for step in screen["then"]:
            if step == "end":
                terminal.wait()
                frames.append((None, terminal.screen()[:-1]))
            elif step == "^C":
                terminal.interrupt()
            else:
                time.sleep(step)
                frames.append((time.monotonic() - begun, terminal.screen()))
        return shown(frames)
    finally:
        if after := screen.get("after"):
            subprocess.run(["sh", "-c", after], cwd=HOME, check=False)
        terminal.close()


def shown(frames):
    """Returns the frames as text: of each, what the one before did not show."""
    lines, before = [], []
    for at, frame in frames:
        same = 0
        while same < min(len(before), len(frame)) and before[same] == frame[same]:
            same += 1
        if at is not None and len(frames) > 1:
            if not lines:
                lines += frame[:1]
                same = max(same, 1)
            lines.append(f"--- after {at:.0f} s" if at >= 0.95 else f"--- after {at:.1f} s")
        elif lines:
            lines.append("--- at the end")
        lines += frame[same:]
        before = frame
    return "\n".join(line.rstrip() for line in lines)


def main():
    program, server_program, *wanted = sys.argv[1:]
    HOME.mkdir()
    server = subprocess.Popen(
        [server_program, str(HOME / "server")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        s3 = dict(server.stdout.readline().rstrip().split("=", 1) for _ in range(4))
        slow = slow_line(int(s3["AWS_ENDPOINT_URL"].rsplit(":", 1)[1]))
        store = {**s3, "CTXSYNC_STORE": "s3://bucket/team"}
        lines = {
            "fast": store,
            "slow": {**store, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{slow}"},
            # As on another machine: the first one has synced the same directory with the bucket.
            None: {"CTXSYNC_STATE_DIR": str(HOME / "state")},
        }
        data()
        page = PAGE.read_text()
        for name, screen in SCREENS.items():
            variables = {**lines[screen.get("line")], **screen.get("set", {})}
            text = record(screen, program, variables)
            if not wanted or name in wanted:
                print(f"== {name}\n{text}", flush=True)
                block = re.compile(rf"(<!-- screen {name} -->\n+```text\n).*?(^```$)", re.S | re.M)
                page, found = block.subn(lambda match: f"{match[1]}{text}\n{match[2]}", page)
                if not found:
                    print(f"the page has no screen {name}", file=sys.stderr)
        PAGE.write_text(page)
    finally:
        server.stdin.close()
        server.wait()
        shutil.rmtree(HOME)


main()
