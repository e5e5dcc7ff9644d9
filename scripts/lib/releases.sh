# shellcheck shell=bash
# Sourced by scripts/broker: RabbitMQ of a release that the machine's own package is not.
#
# Each release is the package of a Debian release, installed by debootstrap into a root directory of its own, which is
# kept in $SOURCE_AMQP_CACHE (default: source-amqp below $XDG_CACHE_HOME or ~/.cache) and never changed after that. What
# is installed is what the archive signed: debootstrap checks it by Debian's keys. The mirror is the machine's own one
# ($SOURCE_AMQP_DEBIAN_MIRROR, else that of its apt sources, else deb.debian.org).

# The Debian release that has RabbitMQ $1.
suite_of() {
  case $1 in
    4.0) echo trixie ;;
    4.3) echo unstable ;;
    *) return 1 ;;
  esac
}

# The release (such as 3.10) of the RabbitMQ below the root directory $1, empty for the machine's own; nothing if there
# is none.
installed_release() {
  local found
  for found in "$1"/usr/lib/rabbitmq/lib/rabbitmq_server-*; do
    [[ -d $found ]] || return 1
    found=${found##*/rabbitmq_server-}
    echo "${found%.*}"
    return
  done
}

# Where this machine gets Debian from.
debian_mirror() {
  local uri
  if [[ -n ${SOURCE_AMQP_DEBIAN_MIRROR:-} ]]; then
    echo "$SOURCE_AMQP_DEBIAN_MIRROR"
    return
  fi
  # 'http://deb.debian.org/debian/dists/bookworm/InRelease' …: the archive itself, not that of security updates.
  uri=$(apt-get update --print-uris 2>/dev/null | sed -n "s#^'\(https\{0,1\}://[^ ]*/debian\)/dists/.*#\1#p" | head -n 1) || true
  echo "${uri:-http://deb.debian.org/debian}"
}

# release_root RELEASE: prints the root directory that holds it, after its installation if need be.
release_root() {
  local release=$1 suite cache base status=0
  suite=$(suite_of "$release") || die "no RabbitMQ $release to be had: the machine's own package is \
$(installed_release "" || echo "not installed"), and --release takes 4.0 and 4.3"
  [[ $(id -u) == 0 ]] || die "RabbitMQ $release runs in a root directory of its own, which takes root"
  cache=${SOURCE_AMQP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/source-amqp}
  base=$(realpath -m "$cache")/rabbitmq-$release
  [[ $base != *[[:space:]]* ]] || die "the cache's path must not contain blanks: $base"
  mkdir -p "${base%/*}"
  (
    flock 8 # Two that need the same release at once: the second finds what the first made.
    [[ ! -e $base ]] || exit 0
    install_release "$release" "$suite" "$base"
  ) 8>"$base.lock" || status=$?
  ((status == 0)) || exit "$status"
  echo "$base"
}

# install_release RELEASE SUITE ROOT
install_release() {
  local release=$1 suite=$2 base=$3 mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg found
  command -v debootstrap >/dev/null || need_packages debootstrap
  [[ -e $keys ]] || need_packages debian-archive-keyring
  mirror=$(debian_mirror)
  say "installing RabbitMQ $release of Debian $suite into $base (some minutes, once)"
  rm -rf --one-file-system "$base.new"
  # debootstrap starts no services.
  debootstrap --variant=minbase --keyring="$keys" --force-check-gpg --include=rabbitmq-server \
    "$suite" "$base.new" "$mirror" </dev/null >"$base.log" 2>&1 || {
    tail -n 15 "$base.log" "$base.new/debootstrap/debootstrap.log" >&2 2>/dev/null || true
    die "debootstrap could not install Debian $suite from $mirror (see above, and $base.log)"
  }
  found=$(installed_release "$base.new") || die "Debian $suite has no RabbitMQ in /usr/lib/rabbitmq"
  [[ $found == "$release" ]] || die "Debian $suite now has RabbitMQ $found, and $release was asked for; \
what --release takes is in scripts/lib/releases.sh"
  rm -rf "$base.new"/var/cache/apt/archives/*.deb "$base.new"/var/lib/apt/lists/* "$base.new"/usr/share/{doc,man,locale}
  : >"$base.new/etc/hosts" # The machine's own comes over it.
  mv "$base.new" "$base"
}

# enter ROOT DIR PROGRAM ARGUMENTS…: becomes the program, in the root directory ROOT, with the broker's directory DIR at
# the same path as outside.
#
# All mounts are in a mount namespace of the program alone and go with it, and what it may write to, but for DIR, is in
# memory: nothing is left behind however it ends, and any number of brokers may use one ROOT.
enter() {
  # shellcheck disable=SC2016 # It is the inner shell that expands.
  exec unshare --mount --propagation private bash -c '
    set -euo pipefail
    base=$1 dir=$2 new=$1/mnt
    shift 2
    mount -t tmpfs -o mode=755 source-amqp "$new"
    mkdir -p "$new"/{usr,etc,proc,dev,run,var} "$new$dir"
    mkdir -p -m 1777 "$new/tmp" "$new/var/tmp"
    for link in bin sbin lib lib32 lib64 libx32; do
      if [[ -L $base/$link ]]; then cp -P "$base/$link" "$new/$link"; fi
    done
    for part in usr etc; do
      mount --bind "$base/$part" "$new/$part"
      mount -o remount,bind,ro "$new/$part"
    done
    mount --bind /etc/hosts "$new/etc/hosts"
    mount --rbind /proc "$new/proc"
    mount --rbind /dev "$new/dev"
    mount --bind "$dir" "$new$dir"
    exec chroot "$new" /usr/bin/env -C "$dir" "$@"
  ' enter "$@"
}
