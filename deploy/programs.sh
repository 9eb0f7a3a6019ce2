#!/usr/bin/env bash
# Make sure the named programs are there: installed as root on Debian, else told to the person.
set -euo pipefail
declare -A package=([redis-server]=redis-server [prometheus]=prometheus [promtool]=prometheus [openssl]=openssl
  [pg_createcluster]=postgresql [curl]=curl [wget]=wget [nginx]=nginx-light [wrk]=wrk
  [node]=nodejs [npm]=npm)
missing=()
for program in "$@"; do
  command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing+=("${package[$program]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]} ..."
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null
  # Their services are not wanted, only the programs: nothing is started.
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && trap 'rm -f "$policy"' EXIT; }
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "please install: ${missing[*]}   (on Debian or Ubuntu: sudo apt-get install ${missing[*]})" >&2
  echo "tests that need what is missing are skipped, and say so" >&2
fi
