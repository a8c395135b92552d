#!/usr/bin/env bash
# Installs edge-inspect as a service, or takes it away again. Run it as often as you like.
set -euo pipefail
umask 022 # what is installed must be readable by the daemon, whatever root is used to

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=edge-inspect
source=$(dirname "$here")
prefix=/opt/edge-inspect
root=
python=python3
site_packages=
uninstall=
purge=
dry_run=
commands="edge-build edge-capture edge-daemon edge-doctor edge-inspect"

usage() {
  cat <<END
Usage: systemd/install.sh [OPTION]...

Installs the daemon as the service edge-daemon: an environment under $prefix, the unit, a udev rule, an
account, and, where there is none, an example of /etc/edge-inspect/rig.yaml. What is there already is brought
up to date; rig.yaml, the password, state and drop-ins of the unit are never touched.

  --from PATH             what to install: a wheel or a source folder ($source)
  --prefix DIR            where the environment goes ($prefix)
  --python PYTHON         which Python it is made of, 3.10 to 3.12 ($python)
  --system-site-packages  let it see the system's Python packages; on a Jetson it does, for TensorRT
  --root DIR              put the files below DIR, for an image: no environment, no account, nothing started
  --uninstall             remove it; configuration, state, engines and bundles stay
  --purge                 with --uninstall: remove those, too, and the account
  --dry-run               say what would be done, and do nothing
  --help                  this text

pip's own variables (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_NO_INDEX) say where packages come from.
END
}

say() { printf '%s\n' "$*"; }

fail() {
  printf 'install.sh: %s\n' "$*" >&2
  exit 1
}

# Every change goes through here or through put.
run() {
  if [ -n "$dry_run" ]; then say "would run: $*"; else "$@"; fi
}

# put MODE FILE: stdin becomes FILE, unless it is that already.
put() {
  local mode=$1 file=$root$2 new
  new=$(mktemp)
  cat >"$new"
  if [ -f "$file" ] && cmp -s "$new" "$file" && [ "$(stat -c %a "$file")" = "$mode" ]; then
    say "unchanged: $file"
  elif [ -n "$dry_run" ]; then
    say "would write: $file"
  else
    mkdir -p "$(dirname "$file")"
    # Beside it and then renamed: a machine that loses power has the old file or the new one.
    install -m "$mode" "$new" "$file.new"
    mv -f "$file.new" "$file"
    say "written: $file"
  fi
  rm -f "$new"
}

# put_once MODE FILE: as put, but a file that is there stays.
put_once() {
  if [ -e "$root$2" ]; then
    cat >/dev/null
    say "kept: $root$2"
  else
    put "$1" "$2"
  fi
}

drop() {
  local path
  for path; do
    if [ -e "$root$path" ] || [ -L "$root$path" ]; then
      run rm -rf "$root$path"
      [ -n "$dry_run" ] || say "removed: $root$path"
    fi
  done
}

# Empty folders that others may use, too, go only when they are empty.
drop_empty() {
  local path
  for path; do
    if [ -d "$root$path" ] && [ -z "$(ls -A "$root$path")" ]; then run rmdir "$root$path"; fi
  done
}

live() { [ -z "$root" ]; }

systemd_runs() { live && [ -d /run/systemd/system ]; }

# The paths in our files are those of the default prefix.
at_prefix() { sed "s|/opt/edge-inspect|$prefix|g" "$1"; }

systemd_version() { systemctl --version 2>/dev/null | awk 'NR == 1 { print int($2) }'; }

parse() {
  while [ $# -gt 0 ]; do
    case $1 in
      --from | --prefix | --python | --root)
        [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value"
        case $1 in
          --from) source=$2 ;;
          --prefix) prefix=$2 ;;
          --python) python=$2 ;;
          --root) root=$2 ;;
        esac
        shift
        ;;
      --system-site-packages) site_packages=yes ;;
      --uninstall) uninstall=yes ;;
      --purge) purge=yes ;;
      --dry-run) dry_run=yes ;;
      --help | -h)
        usage
        exit 0
        ;;
      *) fail "$1 is no option; see --help" ;;
    esac
    shift
  done
  [ -z "$purge" ] || [ -n "$uninstall" ] || fail "--purge goes with --uninstall"
  [[ $prefix =~ ^(/[A-Za-z0-9_.-]+){2,}$ && $prefix != *..* ]] ||
    fail "--prefix $prefix: must be an absolute path of two folders or more, of letters, digits and _ . -"
  [[ $prefix != /usr/bin && $prefix != /usr/lib && $prefix != /usr/local ]] ||
    fail "--prefix $prefix: must be a folder of its own; --uninstall removes it"
  [[ ! $prefix =~ ^/(home|root|run|tmp|dev|proc|sys)/ ]] ||
    fail "--prefix $prefix: the daemon can't see it there (ProtectHome=, PrivateTmp=); use /opt or /srv"
  if [ -n "$root" ]; then
    [ -d "$root" ] || fail "--root $root: is no folder"
    root=$(cd "$root" && pwd)
    [ "$root" != / ] || root=
  fi
  if live && [ -z "$dry_run" ] && [ "$(id -u)" != 0 ]; then
    fail "must be root: sudo $0"
  fi
}

# ---- the environment

on_a_jetson() { [ -e /etc/nv_tegra_release ] || grep -qs 'nvidia,tegra' /proc/device-tree/compatible; }

check_python() {
  command -v "$python" >/dev/null || fail "$python: not found; name one by --python"
  "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' ||
    fail "$python is $("$python" -V); Python 3.10, 3.11 or 3.12 is needed"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python has no venv with pip; on Debian and Ubuntu: apt-get install python3-venv"
  local base
  base=$("$python" -c 'import os, sys; print(os.path.realpath(sys.base_prefix))')
  [[ ! $base =~ ^/(home|root|run|tmp)(/|$) ]] ||
    fail "$python lies in $base, which the daemon can't see (ProtectHome=); use the system's python3"
}

make_environment() {
  local venv=$prefix/venv work=$source wanted=false
  on_a_jetson && site_packages=yes
  [ -z "$site_packages" ] || wanted=true
  check_python
  [ -e "$source" ] || fail "--from $source: is not there"
  # One that was made of another Python, or by other rules, is made anew.
  if [ -d "$venv" ] &&
    { ! "$venv/bin/python" -c '' 2>/dev/null ||
      [ "$("$venv/bin/python" -V)" != "$("$python" -V)" ] ||
      ! grep -qx "include-system-site-packages = $wanted" "$venv/pyvenv.cfg"; }; then
    run rm -rf "$venv"
  fi
  if [ ! -d "$venv" ] || [ -n "$dry_run" ]; then
    run "$python" -m venv ${site_packages:+--system-site-packages} "$venv"
  fi
  if [ -d "$source" ] && [ -z "$dry_run" ]; then
    # From a copy: a build leaves folders behind, and these would belong to root.
    work=$(mktemp -d)
    trap 'rm -rf "$work"' RETURN
    (cd "$source" && cp -r pyproject.toml README.md LICENSE edge train export "$work")
  fi
  run "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet "$work"
  # The version may be that which is installed, and the code another.
  run "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
    --no-deps --force-reinstall "$work"
  run "$venv/bin/python" -m compileall -q "$venv/lib" || true # packages bring files for other Pythons
  run "$venv/bin/edge-daemon" --help >/dev/null
  local command
  for command in $commands; do
    if [ -x "$venv/bin/$command" ] && [ ! -e "/usr/local/bin/$command" ]; then
      run ln -sfn "$venv/bin/$command" "/usr/local/bin/$command"
    fi
  done
  if on_a_jetson && [ -z "$dry_run" ] && ! "$venv/bin/python" -c 'import tensorrt' 2>/dev/null; then
    say "note: TensorRT's Python module is not there; see $prefix/docs/tensorrt.md"
  fi
}

# ---- install

put_files() {
  local page
  for page in "$here"/../docs/*.md "$here"/../docs/*.yaml; do
    put 644 "$prefix/docs/${page##*/}" <"$page"
  done
  at_prefix "$here/edge-daemon.service" | put 644 /etc/systemd/system/edge-daemon.service
  if [ "$(systemd_version)" -ge 254 ] 2>/dev/null; then
    put 644 /etc/systemd/system/edge-daemon.service.d/10-backoff.conf <"$here/10-backoff.conf"
  fi
  put 644 /etc/udev/rules.d/70-edge-inspect.rules <"$here/70-edge-inspect.rules"
  put 644 /etc/sysusers.d/edge-inspect.conf <"$here/edge-inspect.sysusers.conf"
  put 644 /etc/tmpfiles.d/edge-inspect.conf <"$here/edge-inspect.tmpfiles.conf"
  at_prefix "$here/rig.yaml" | put_once 640 /etc/edge-inspect/rig.yaml
  put_once 600 /etc/edge-inspect/mqtt-password </dev/null
  run mkdir -p "$root$prefix/bundles"
}

install_all() {
  if live; then make_environment; fi
  put_files
  live || return 0
  run systemd-sysusers /etc/sysusers.d/edge-inspect.conf
  run systemd-tmpfiles --create /etc/tmpfiles.d/edge-inspect.conf
  if [ -S /run/udev/control ]; then
    run udevadm control --reload
    run udevadm trigger --action=change --subsystem-match=usb --subsystem-match=video4linux --subsystem-match=gpio
  fi
  if systemd_runs; then
    run systemctl daemon-reload
    run systemctl try-restart edge-daemon.service
  fi
}

next_steps() {
  cat <<END

Next:
  1. Put a bundle into $root$prefix/bundles/ (a folder that edge-export wrote).
  2. Fit $root/etc/edge-inspect/rig.yaml to this cell; a broker's password goes into
     $root/etc/edge-inspect/mqtt-password (first line).
END
  if live; then
    cat <<END
  3. edge-doctor --config /etc/edge-inspect/rig.yaml   what this machine has, and what is missing
  4. systemctl enable --now edge-daemon                now, and at each boot
     journalctl -fu edge-daemon                        what it says
END
  else
    cat <<END
  3. Run install.sh in the image itself (chroot, systemd-nspawn) for the environment and the account.
END
  fi
}

# ---- uninstall

uninstall_all() {
  if systemd_runs && [ -e /etc/systemd/system/edge-daemon.service ]; then
    run systemctl disable --now edge-daemon.service
  fi
  drop /etc/systemd/system/edge-daemon.service \
    /etc/systemd/system/multi-user.target.wants/edge-daemon.service \
    /etc/systemd/system/edge-daemon.service.d/10-backoff.conf \
    /etc/udev/rules.d/70-edge-inspect.rules \
    /etc/tmpfiles.d/edge-inspect.conf \
    "$prefix/venv" "$prefix/docs"
  local command
  for command in $commands; do
    if [ "$(readlink "$root/usr/local/bin/$command" || true)" = "$prefix/venv/bin/$command" ]; then
      drop "/usr/local/bin/$command"
    fi
  done
  if [ -n "$purge" ]; then
    drop /etc/edge-inspect /etc/systemd/system/edge-daemon.service.d /var/lib/edge-inspect \
      /var/cache/edge-inspect "$prefix"
    if live && getent passwd $name >/dev/null; then run userdel $name; fi
  fi
  # What stays may belong to the account, so it stays with it.
  [ -z "$purge" ] || drop /etc/sysusers.d/edge-inspect.conf
  drop_empty "$prefix/bundles" "$prefix" /etc/systemd/system/edge-daemon.service.d
  if systemd_runs; then
    run systemctl daemon-reload
    run systemctl reset-failed edge-daemon.service 2>/dev/null || true # it may never have failed
  fi
  if live && [ -S /run/udev/control ]; then run udevadm control --reload; fi
  if [ -z "$purge" ]; then
    say "kept: /etc/edge-inspect, /var/lib/edge-inspect, /var/cache/edge-inspect, $prefix/bundles and the account" \
      "(--purge removes them)"
  fi
}

parse "$@"
if [ -n "$uninstall" ]; then
  uninstall_all
else
  install_all
  next_steps
fi
