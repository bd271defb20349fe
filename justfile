# What CI runs, and what is worth running by hand. `just --list` shows all.

# Everything that CI checks.
ci:
    .ci/run

# Formats the code.
fmt:
    cargo fmt --all

# Looks for mistakes; a warning is an error.
clippy:
    cargo clippy --workspace --all-targets -- -D warnings

# Passes the tests.
test:
    cargo test --workspace

# Builds the documentation of all crates.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Builds the docs as a book, into target/book.
book:
    docs/lint.sh book

# Builds the book, and checks the files of docs/examples/run with the tools that read them (needs python3 and npm).
docs:
    docs/lint.sh

# Records the first minute again, for the README.
recording:
    cargo build --release --locked -p sync-cli
    docs/pictures/record.py target/release/ctxsync

# Records the screens of docs/tour.md again, all or some of them (needs tmux, and root for the full disk).
tour *screens:
    cargo build --workspace --profile quick --bin ctxsync --example s3_server
    docs/pictures/tour.py target/quick/ctxsync target/quick/examples/s3_server {{screens}}

# Checks licences, advisories and sources of what we depend on (needs cargo-deny and the network).
deny:
    cargo deny check

# Measures the parts and the whole.
bench *args:
    cargo bench --workspace -- {{args}}

# Builds the program for users, a Debian package, a list of its crates and checksums, into target/dist.
dist:
    .ci/dist

# Checks that the program compiles for macOS, and the policies for WebAssembly (needs `rustup target add`).
targets:
    .ci/targets

# Tests what replaces the system calls that only Linux has.
portable:
    cargo test --workspace --features transfer-engine/portable --test crash --test arrivals --test extraction

# Loses a workspace and finds it again.
demo:
    ./demo.sh

# Looks for rare faults with many more cases than `test` tries, say `just search 100000`.
search cases="20000":
    PROPTEST_CASES={{cases}} cargo test --release --workspace

# Looks for lost files where whole machines meet faults, say `just simulate 1000000`; prints what was met how often.
simulate seeds="10000" first="0":
    CTXSYNC_SEEDS={{seeds}} CTXSYNC_FIRST={{first}} cargo test --profile quick -p ctxsync-tests --test simulation -- --nocapture machines_lose

# Loses power again and again, with file systems in files; for root, and with mkfs.xfs. `just power-loss 200 btrfs`.
power-loss losses="100" disk="ext4":
    CTXSYNC_LOSSES={{losses}} CTXSYNC_DISK={{disk}} cargo test -p ctxsync-tests --test power_loss -- --nocapture

# Looks for lost files where collections, writers, forks and moves meet, say `just collections 5000`.
collections seeds="2000":
    CTXSYNC_SEEDS={{seeds}} cargo test --release -p ctxsync-tests --test collect

# Lets writers commit to one context at the same time, on each kind of store: so many, with so many commits each.
writers numbers="50x100":
    CTXSYNC_WRITERS={{numbers}} cargo test --profile quick -p ctxsync-tests --test many_writers -- --nocapture --test-threads 1

# Lists so many contexts over S3, with 50 ms for each request: without an index, with one, and after changes.
contexts count="10000":
    CTXSYNC_CONTEXTS={{count}} cargo test --profile quick -p ctxsync-tests --test listing -- --nocapture over_s3

# Plants bugs into a copy of the sources, and shows for each whether its test catches it, say `just planted no_read_back`.
planted *bugs:
    tests/planted/run.sh {{bugs}}

# Flips each bit of what is remembered of a mount.
flips:
    CTXSYNC_FLIPS=all cargo test --release -p ctxsync-tests --test state_faults flipped

# Changes so many single bytes of the objects of a store, one after another, and looks what machines and `check` make of it.
bytes count="1000000":
    CTXSYNC_BYTES={{count}} cargo test --profile quick -p ctxsync-tests --test flips -- --nocapture

# Tries so many faults of the network, or `all`, each at some request of some command, against an S3 server on this machine.
network faults="1000":
    CTXSYNC_FAULTS={{faults}} cargo test -p sync-cli --test cli -- --nocapture whatever_the_network_does

# Fuzzes each reader of the engine for so many seconds (needs cargo-fuzz; works with a stable compiler).
fuzz seconds="600":
    for reader in fuzz/fuzz_targets/*.rs; do \
        RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $(basename $reader .rs) -- \
            -max_total_time={{seconds}} -max_len=16384 -rss_limit_mb=1024 || exit 1; \
    done

# Pushes a git repository so many times while it commits and repacks, and checks each snapshot with git.
git-checkpoints count="300":
    CTXSYNC_CHECKPOINTS={{count}} cargo test --release -p ctxsync-tests --test live_git -- --nocapture

# Kills the program before system calls that change something: so often for each scenario, or `all` once.
kills count="all":
    CTXSYNC_KILLS={{count}} cargo test -p sync-cli --test kill -- --nocapture p1_

# Lets system calls of the program fail: so often for each scenario, or `all` once.
errors count="all":
    CTXSYNC_ERRORS={{count}} cargo test -p sync-cli --test kill -- --nocapture no_call_that_fails

# Saves databases of SQLite while they are written, so often for each kind, say `just databases 300`.
databases rounds="300":
    CTXSYNC_DATABASES={{rounds}} cargo test --profile quick -p ctxsync-tests --test databases -- --nocapture l27_a_database_that

# Measures memory with 4 GiB and with 200,000 files, and what a small insertion sends. Needs 13 GB of disk.
big:
    cargo test --profile quick -p sync-cli --test big -- --ignored --nocapture --test-threads 1

# Extracts real release archives and compares with bsdtar (Debian's libarchive-tools). Fetches about 60 MB, once.
archives dir="target/archives":
    tests/fetch-archives.sh {{dir}}
    CTXSYNC_ARCHIVES={{absolute_path(dir)}} cargo test -p transfer-engine --lib real_archives -- --nocapture

# Makes a table of what `bench` measured last, say `just figures --into docs/benchmarks.md`.
figures *args:
    cargo run -p ctxsync-benches --bin figures -- {{args}}

# Measures what nothing can beat on this machine, say `just floors --work /mnt --into docs/performance.md`.
floors *args:
    cargo run --release -p ctxsync-benches --bin floors -- {{args}}

# Measures ctxsync side by side with other tools, say `just peers --data d1 --to local`; goes on where it was.
peers *args:
    cargo build --release -p sync-cli -p ctxsync-peers
    PATH="$(benches/peers/install.sh target/peers/tools)" target/release/peers run {{args}}

# Measures forks, merges and diffs of a million files: the table in docs/branches.md.
branches *dir:
    benches/branches.sh {{dir}}

# Measures twenty sessions that fork and merge back against twenty pushes, say `just fan-out s3://bucket/prefix`.
fan-out *args:
    benches/fan_out.sh {{args}}

# Measures how the operations grow with files and snapshots; goes on where it was. Needs 35 GB of disk.
growth *args:
    cargo build --release -p sync-cli -p ctxsync-peers
    target/release/peers growth --docs docs {{args}}

# Measures what `uploadMode: Archive` saves and costs on real trees: the table in docs/upload-modes.md.
upload-modes *args:
    just peers --data d1,d4,d5 --to s3 --operations first-push,fetch-one --tools ctxsync,ctxsync-archive,restic {{args}}
