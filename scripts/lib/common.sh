# shellcheck shell=bash
# Sourced by every script here: where the repository is, how to say things, how to get what is missing.

# The repository's root, absolute.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Messages go to stderr, so that a script's stdout stays its result.
say() { printf '%s\n' "$*" >&2; }
die() {
  say "$(basename "$0"): $*"
  exit 1
}

# Runs a command as root: directly, or through sudo where that exists.
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "need root (or sudo) to run: $*"
  fi
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# need_packages NAME…: installs the Debian packages that are not there yet.
#
# Installing rabbitmq-server would start a system-wide broker, and enable it for the next boot. The first is prevented
# with a temporary /usr/sbin/policy-rc.d (https://www.debian.org/doc/debian-policy/ch-opersys.html, invoke-rc.d asks
# it), the second is undone; a policy file that was there before is put back.
need_packages() {
  local missing=() name status=0
  for name in "$@"; do installed "$name" || missing+=("$name"); done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "no apt-get here; please install by hand: ${missing[*]}"
  say "installing: ${missing[*]}"
  local policy=/usr/sbin/policy-rc.d aside=/usr/sbin/policy-rc.d.source-amqp
  # One root shell, so that the policy file is removed whatever happens in between.
  # shellcheck disable=SC2016
  as_root env DEBIAN_FRONTEND=noninteractive bash -c '
    set -uo pipefail
    policy=$1 aside=$2
    shift 2
    restore() { rm -f "$policy"; if [[ -e $aside ]]; then mv -f "$aside" "$policy"; fi; }
    trap restore EXIT
    if [[ -e $policy && ! -e $aside ]]; then mv "$policy" "$aside"; fi
    printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy" || exit 1
    try() { apt-get install -y -q --no-install-recommends "$@" </dev/null; }
    log=$(mktemp)
    # A fresh image has no package lists, and old lists name files that are gone: update, then try again.
    if ! try "$@" >"$log" 2>&1; then
      { apt-get update -q </dev/null && try "$@"; } >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; exit 1; }
    fi
    rm -f "$log"
    for name in "$@"; do
      if [[ $name == rabbitmq-server ]] && command -v systemctl >/dev/null; then
        systemctl --quiet disable rabbitmq-server.service epmd.socket epmd.service >/dev/null 2>&1 || true
      fi
    done
  ' bash "$policy" "$aside" "${missing[@]}" || status=$?
  ((status == 0)) || die "could not install: ${missing[*]} (see the messages above)"
}

# need_python: a virtual environment with pika, prometheus-client, jsonschema, PyYAML, rstream and duckdb-cli
# (https://pypi.org), in .build-venv; sets $python.
need_python() {
  python="$root/.build-venv/bin/python"
  local modules='import jsonschema, pika, prometheus_client, rstream, yaml'
  [[ -x $root/.build-venv/bin/duckdb ]] && "$python" -c "$modules" 2>/dev/null && return
  need_packages python3 python3-venv
  # Under a lock: two scripts may be started at once on a new machine.
  (
    flock 9
    [[ -x $root/.build-venv/bin/duckdb ]] && "$python" -c "$modules" 2>/dev/null && exit
    # Debian's own interpreter: another python3 in front of it in PATH may lack ensurepip.
    /usr/bin/python3 -m venv --clear "$root/.build-venv" || exit
    "$root/.build-venv/bin/pip" install --quiet --disable-pip-version-check \
      'jsonschema==4.17.3' 'pika==1.3.2' 'prometheus-client==0.21.1' 'PyYAML==6.0.2' 'rstream==1.1.1' \
      'duckdb-cli==1.5.6' </dev/null || exit
    say "jsonschema, pika, prometheus-client, PyYAML, rstream and duckdb-cli installed in .build-venv"
  ) 9<"$root" || die "could not install Python packages into .build-venv"
}

# need_connector: sets and exports SOURCE_AMQP_BINARY, after a release build where it is not given.
need_connector() {
  if [[ -z ${SOURCE_AMQP_BINARY:-} ]]; then
    command -v swift >/dev/null || die "no swift in PATH (https://www.swift.org/install)"
    need_packages librabbitmq-dev libsqlite3-dev libssl-dev zlib1g-dev pkg-config
    say "building the connector"
    (cd "$root" && swift build -c release --product source-amqp >&2) || die "the build failed"
    SOURCE_AMQP_BINARY=$(cd "$root" && swift build -c release --show-bin-path)/source-amqp
  fi
  [[ -x $SOURCE_AMQP_BINARY ]] || die "no connector at $SOURCE_AMQP_BINARY"
  export SOURCE_AMQP_BINARY
}

# need_journal_writer: sets and exports JOURNAL_WRITER, after a release build where it is not given.
need_journal_writer() {
  if [[ -z ${JOURNAL_WRITER:-} ]]; then
    command -v swift >/dev/null || die "no swift in PATH (https://www.swift.org/install)"
    need_packages libsqlite3-dev pkg-config
    say "building JournalWriter"
    (cd "$root" && swift build -c release --product JournalWriter >&2) || die "the build failed"
    JOURNAL_WRITER=$(cd "$root" && swift build -c release --show-bin-path)/JournalWriter
  fi
  [[ -x $JOURNAL_WRITER ]] || die "no JournalWriter at $JOURNAL_WRITER"
  export JOURNAL_WRITER
}

# private_broker: starts a broker for this script alone, in $temporary/broker, exports its variables, and removes
# $temporary with everything in it at the script's end.
private_broker() {
  temporary=$(mktemp -d /var/tmp/source-amqp.XXXXXX)
  trap remove_brokers EXIT
  "$root/scripts/broker" start "$temporary/broker" "$@"
  # shellcheck disable=SC1091
  source "$temporary/broker/env"
}

# A private cluster of $1 nodes, likewise.
private_cluster() {
  private_broker --cluster "$1"
  SOURCE_AMQP_TEST_PORTS=$(sed -n 's/^export SOURCE_AMQP_TEST_PORT=//p' "$temporary"/broker/[0-9]*/env | paste -sd,)
  export SOURCE_AMQP_TEST_PORTS SOURCE_AMQP_TEST_CLUSTER=$temporary/broker
}

# Stops the brokers below $temporary (a test may have started one of its own and not come to its end), deletes it.
remove_brokers() {
  local environment
  for environment in "$temporary"/*/env; do
    [[ ! -e $environment ]] || "$root/scripts/broker" stop "$(dirname "$environment")" || true
  done
  rm -rf "$temporary"
}
