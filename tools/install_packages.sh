#!/usr/bin/env bash
# Installs the packages of the named groups of packaging/packages.txt, and only those that are missing:
# with everything there it asks neither the network nor for rights.
set -euo pipefail

if (($# == 0)) || [[ $1 == -* ]]; then
  echo "usage: tools/install_packages.sh GROUP...   (groups: build test check bench)" >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

packages_of() { # GROUP
  awk -v group="[$1]" '/^\[/ { inside = ($0 == group); seen = seen || inside; next }
    inside && NF && !/^#/ { print $1 }
    END { exit !seen }' "$root/packaging/packages.txt" || {
    echo "install_packages: packaging/packages.txt has no group '$1'" >&2
    return 2
  }
}

missing=()
for group in "$@"; do
  listed=$(packages_of "$group")
  for package in $listed; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
  done
done
((${#missing[@]})) || exit 0

. /etc/os-release
if [[ ${ID:-} != debian || ${VERSION_ID:-} != 12 ]]; then
  echo "install_packages: made for Debian 12, this is ${PRETTY_NAME:-unknown}; trying the same names" >&2
fi
as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || {
    echo "install_packages: run as root, or install by hand: apt-get install ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "Installing ${#missing[@]} packages: ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o Dpkg::Use-Pty=0)
# What apt says is long and matters only when it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
  tail -n 30 "$log" >&2
  echo "install_packages: apt-get did not install ${missing[*]}; its last words are above" >&2
  exit 1
fi
