//! The script for bash.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::env::{Bash as Generic, EnvCompleter};

/// As [`Generic`], with a script of our own: bash begins a new word at each `:` and `@`, but a context, its snapshot and a
/// path are one word.
pub(super) struct Bash;

/// Puts the parts of words together again, and takes from each candidate what is on the line already: all that is before
/// `$2`, which begins after a `:`, but with an `@`.
const SCRIPT: &str = r#"_ctxsync() {
    local IFS=$'\013' line=${COMP_LINE:0:COMP_POINT} words=() word space i candidate quoted
    for ((i = 0; i <= COMP_CWORD; i++)); do
        space=${line%%[![:space:]]*}
        line=${line#"$space"}
        word=$line
        ((i == COMP_CWORD)) || word=${COMP_WORDS[i]}
        line=${line#"$word"}
        if [[ -n $space || ${#words[@]} -eq 0 ]]; then
            words+=("$word")
        else
            words[${#words[@]} - 1]+=$word
        fi
    done
    local current=${words[${#words[@]} - 1]} part=$2
    [[ $part == [:=] ]] && part=
    COMPREPLY=()
    for candidate in $(VAR=bash _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
        COMPLETER -- "${words[@]}" 2> /dev/null); do
        printf -v quoted %q "${candidate#"${current%"$part"}"}"
        COMPREPLY+=("$quoted")
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/:@=] ]]; then
        compopt -o nospace 2> /dev/null
    fi
}
complete -o bashdefault -F _ctxsync BIN
"#;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        Generic.name()
    }

    fn is(&self, name: &str) -> bool {
        Generic.is(name)
    }

    fn write_registration(
        &self,
        var: &str,
        _name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn io::Write,
    ) -> io::Result<()> {
        let script = SCRIPT.replace("VAR", var).replace("COMPLETER", completer).replace("BIN", bin);
        buf.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        args: Vec<OsString>,
        here: Option<&Path>,
        buf: &mut dyn io::Write,
    ) -> io::Result<()> {
        Generic.write_complete(command, args, here, buf)
    }
}
