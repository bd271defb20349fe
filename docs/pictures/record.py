#!/usr/bin/env python3
"""Runs the first minute with the real program, and draws what it printed: docs/pictures/first-minute.svg.

    cargo build --release -p sync-cli && docs/pictures/record.py target/release/ctxsync

Commands appear as if they were typed; their output takes as long as it took. The home directory is a temporary one,
and is shown as /home/me. Who wants less motion, or prints the page, sees everything at once.
"""

import html
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = [
    "ls project",
    "ctxsync push my-project project",
    "rm -r project   # this machine is gone; here is the next one:",
    "ctxsync run --wait -c my-project work -- ./build.sh",
    "ctxsync log my-project",
    "ctxsync diff my-project@2 my-project@3",
]
# What the first machine has: 2,000 small files and a program that changes some.
SETUP = """
mkdir -p project/data
for i in $(seq 2000); do seq $i $((i + 200)) > project/data/$i.txt; done
printf '#!/bin/sh\\necho building; rm data/1.txt; echo built > result; sleep 0.3\\n' > project/build.sh
chmod +x project/build.sh
"""

WIDTH, LINE, LEFT, TOP, COLUMN = 92, 19, 16, 46, 7.9
TYPING, PAUSE = 0.035, 0.9
COLOURS = {"1": "bold", "31": "red", "32": "green", "33": "yellow", "36": "cyan", "2": "dim", "90": "dim"}


def run(home, program, command):
    """Returns what the command printed on both streams, and how long it took."""
    env = {
        "HOME": home,
        "PATH": f"{Path(program).resolve().parent}:{os.environ['PATH']}",
        "CTXSYNC_COLOR": "always",
        "CTXSYNC_NO_PROGRESS": "1",
        "LC_ALL": "C.UTF-8",
    }
    begun = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", command], cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{command}: {done.stdout}")
    return done.stdout.replace(home, "/home/me"), time.monotonic() - begun


def spans(line):
    """Returns a line with its colours as elements."""
    drawn, style = "", ""
    for index, part in enumerate(re.split(r"\x1b\[([0-9;]*)m", line)):
        if index % 2:
            style = " ".join(COLOURS[code] for code in part.split(";") if code in COLOURS)
        elif part:
            text = html.escape(part, quote=False)
            drawn += f'<tspan class="{style}">{text}</tspan>' if style else text
    return drawn


def wrapped(line):
    """Returns a line as a terminal shows it: cut where it is full."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    if len(plain) <= WIDTH:
        return [line]
    return [plain[at : at + WIDTH] for at in range(0, len(plain), WIDTH)]


def main():
    program = sys.argv[1]
    rows = []  # of (time, what appears, class)
    now = 0.6
    with tempfile.TemporaryDirectory() as home:
        run(home, program, SETUP)
        for command in COMMANDS:
            rows.append((now, "$ " + html.escape(command, quote=False), "typed", len(command)))
            now += TYPING * len(command) + 0.3
            output, seconds = run(home, program, command)
            now += seconds
            for line in output.splitlines():
                rows += [(now, spans(part), "", 0) for part in wrapped(line)]
            now += PAUSE

    height = TOP + LINE * len(rows) + 10
    width = round(2 * LEFT + COLUMN * WIDTH)
    lines = []
    for index, (at, text, kind, length) in enumerate(rows):
        y = TOP + LINE * index
        attributes = f'x="{LEFT}" y="{y}" style="animation-delay:{at:.2f}s"'
        if kind == "typed":
            attributes = f'class="typed" x="{LEFT}" y="{y}" style="animation:type {TYPING * length:.2f}s steps({length + 2}) {at:.2f}s both"'
        lines.append(f"<text {attributes}>{text}</text>")
    svg = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>The first minute with ctxsync: a directory is saved, brought to another machine, changed and saved there</title>
<style>
rect{{fill:#0d1117;stroke:#3d444d}}
circle{{fill:#3d444d}}
text{{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d1d7e0;white-space:pre;animation:show .01s both}}
.typed{{fill:#f0f6fc;font-weight:600}}
.bold{{font-weight:600}}.red{{fill:#f85149}}.green{{fill:#3fb950}}.yellow{{fill:#d29922}}.cyan{{fill:#39c5cf}}.dim{{fill:#9198a1}}
@keyframes show{{from{{opacity:0}}to{{opacity:1}}}}
@keyframes type{{from{{clip-path:inset(-4px 100% -4px 0)}}to{{clip-path:inset(-4px 0 -4px 0)}}}}
@media print,(prefers-reduced-motion:reduce){{text{{animation:none!important}}}}
</style>
<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>
<circle cx="18" cy="16" r="5"/><circle cx="34" cy="16" r="5"/><circle cx="50" cy="16" r="5"/>
{chr(10).join(lines)}
</svg>
"""
    place = Path(__file__).with_name("first-minute.svg")
    place.write_text(svg)
    print(f"{place}: {len(svg)} bytes, {now:.0f} s")


main()
